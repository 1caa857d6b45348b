//! Frames on the serial line between node and agent.

use arbitrary::Unstructured;
use drover_wire::node::{Decoder, MAX_FRAME, Message, NodeDown, NodeUp, encode};

use crate::bound::{NONE, bounded};
use crate::draw::draw;
use crate::parser::{self, Parser};

/// Both directions; the decoder holds one frame and never allocates.
pub const PARSERS: &[Parser] = &[
    Parser {
        name: "node NodeUp",
        bound: NONE,
        limit: 64 * 1024,
        read: read::<NodeUp>,
        seeds: frames::<NodeUp>,
    },
    Parser {
        name: "node NodeDown",
        bound: NONE,
        limit: 64 * 1024,
        read: read::<NodeDown>,
        seeds: frames::<NodeDown>,
    },
];

fn read<M: Message>(parser: &Parser, bytes: &[u8]) -> bool {
    let found = bounded(parser, bytes.len(), || {
        let mut decoder = Decoder::<M>::new();
        let mut input = bytes;
        let mut found = 0usize;
        while decoder.pull(&mut input).is_some() {
            found += 1;
        }
        assert!(input.is_empty());
        found
    });
    // However the line is cut, the same messages come out.
    let mut decoder = Decoder::<M>::new();
    let mut messages = Vec::new();
    for mut piece in bytes.chunks(usize::from(bytes.first().copied().unwrap_or(0)) + 1) {
        while let Some(message) = decoder.pull(&mut piece) {
            messages.push(message);
        }
    }
    assert_eq!(messages.len(), found);
    let mut frame = [0; MAX_FRAME];
    for message in &messages {
        let mut written = encode(message, &mut frame).expect("what was read fits a frame");
        let again = Decoder::<M>::new().pull(&mut written);
        assert!(again.is_some() && written.is_empty());
    }
    found > 0
}

fn frames<M: Message>() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for round in 1..60 {
        let bytes = parser::noise(round, 600);
        let mut frame = [0; MAX_FRAME];
        let message = draw::<M>(&mut Unstructured::new(&bytes));
        if let Some(written) = message.and_then(|m| Some(encode(&m, &mut frame).ok()?.to_vec())) {
            seeds.push(written);
        }
    }
    seeds
}

/// The first bit chooses between raw bytes and drawn messages between noise.
pub fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((choice, rest)) if choice & 1 == 0 => {
            parser::dispatch(PARSERS, &[&[choice >> 1], rest].concat());
        }
        Some((choice, rest)) if choice & 2 == 0 => line::<NodeUp>(rest),
        Some((_, rest)) => line::<NodeDown>(rest),
        None => {}
    }
}

/// Seeds for [`run`].
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = parser::seeds(PARSERS);
    for seed in &mut seeds {
        seed[0] <<= 1;
    }
    seeds.extend((1..20).map(|n| parser::noise(n, 300)));
    seeds
}

/// Messages on a noisy line: those with a whole frame behind a zero come out, in order.
fn line<M: Message + std::fmt::Debug>(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    let mut stream = Vec::new();
    let mut sent = Vec::new();
    let mut frame = [0; MAX_FRAME];
    while !u.is_empty() && sent.len() < 32 {
        let noise: Vec<u8> = u.arbitrary().unwrap_or_default();
        // A zero closes the noise, so that it takes no message with it.
        stream.extend(noise.iter().filter(|byte| **byte != 0));
        stream.push(0);
        let Some(message) = draw::<M>(u) else {
            continue;
        };
        let written = encode(&message, &mut frame).expect("any message fits a frame");
        stream.extend_from_slice(written);
        sent.push(format!("{message:?}"));
    }
    let mut decoder = Decoder::<M>::new();
    let mut received = Vec::new();
    let mut input = &stream[..];
    while let Some(message) = decoder.pull(&mut input) {
        received.push(format!("{message:?}"));
    }
    // The fuzzer may well find noise that is a message; what was sent still comes in order.
    let mut rest = received.iter();
    assert!(sent.iter().all(|message| rest.any(|r| r == message)));
}
