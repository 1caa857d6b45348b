//! One parser: what it reads, what it may take, and the round trip that it must stand.

use arbitrary::Unstructured;
use serde::de::DeserializeOwned;

use crate::bound::{Bound, bounded};
use crate::draw::draw;

/// A parser of bytes that come from outside.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    /// Name, as the README lists it.
    pub name: &'static str,
    /// The most heap that it may hold.
    pub bound: Bound,
    /// Longest input that it reads; longer ones are refused at once.
    pub limit: usize,
    /// Reads bytes and panics when something is wrong; whether they were accepted.
    pub read: fn(&Parser, &[u8]) -> bool,
    /// Acceptable inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl Parser {
    /// Reads `bytes`, which come from outside.
    pub fn run(&self, bytes: &[u8]) -> bool {
        (self.read)(self, bytes)
    }

    /// Decodes in bounds. What is accepted must read back from what it is written as, to the
    /// same bytes: two nodes that pass a value on must not see two different ones.
    ///
    /// # Panics
    /// When it does not, or when decoding took too much memory.
    pub fn round_trip<T>(
        &self,
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Option<T>,
        encode: impl Fn(&T) -> Option<Vec<u8>>,
    ) -> Option<T> {
        let value = bounded(self, bytes.len(), || decode(bytes))?;
        let written = encode(&value).expect("what was read can be written");
        assert!(
            written.len() <= bytes.len(),
            "{}: read from {} bytes, written as {}",
            self.name,
            bytes.len(),
            written.len()
        );
        let again = decode(&written).expect("what was written can be read");
        let twice = encode(&again).expect("what was read can be written");
        assert_eq!(written, twice, "{}: changes when passed on", self.name);
        Some(value)
    }
}

/// Inputs of one raw target: the first byte chooses the parser, the rest is for it.
pub fn dispatch(parsers: &[Parser], bytes: &[u8]) {
    if let Some((&choice, rest)) = bytes.split_first() {
        parsers[usize::from(choice) % parsers.len()].run(rest);
    }
}

/// Seeds of one raw target.
pub fn seeds(parsers: &[Parser]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (choice, parser) in (0u8..).zip(parsers) {
        for seed in (parser.seeds)() {
            all.push([&[choice], &seed[..]].concat());
        }
    }
    all
}

/// Acceptable encodings of drawn values, the same at each call.
pub fn drawn_seeds<T: DeserializeOwned>(encode: impl Fn(&T) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for round in 1..400u64 {
        let bytes = noise(round, 2048);
        let value = draw::<T>(&mut Unstructured::new(&bytes));
        found.extend(value.as_ref().and_then(&encode));
        if found.len() == 24 {
            break;
        }
    }
    found
}

/// Bytes that look random and are the same at each call (xorshift64, Marsaglia 2003).
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
