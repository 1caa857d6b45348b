//! Hostile inputs: seeds whose lengths lie, whose lists never end, or which are as long as is
//! allowed. They are the same at each run.

use crate::parser::{Parser, noise};

/// Length prefixes as postcard writes them: 2^60 - 1, 2^32 - 1, and one that fits the message.
const LENGTHS: [&[u8]; 4] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff, 0xff, 0x05],
    &[0xff, 0x7f],
];
/// Bytes that fill a message up: empty lists, lists of one, ends of long numbers.
const FILLERS: [u8; 5] = [0, 1, 2, 0x7f, 0xff];
/// Positions at which a seed is tampered with; beyond them every seventeenth is.
const CLOSE: usize = 160;

/// Calls `try_it` with each hostile input for `parser`.
pub fn inputs(parser: &Parser, mut try_it: impl FnMut(&[u8])) {
    let mut seeds = (parser.seeds)();
    seeds.truncate(12);
    seeds.push(Vec::new());
    for seed in &seeds {
        try_it(seed);
        let places = (0..seed.len().min(CLOSE)).chain((CLOSE..seed.len()).step_by(17));
        for at in places {
            try_it(&seed[..at]);
            for length in LENGTHS {
                let lying = [&seed[..at], length, &seed[at..]].concat();
                try_it(&lying);
                let swapped = [&seed[..at], length, &seed[at + 1..]].concat();
                try_it(&swapped);
            }
        }
    }
    // As long as is allowed, with every start that a seed offers and every filler.
    let long = parser.limit.min(1 << 18);
    for seed in &seeds {
        for at in (0..=seed.len().min(48)).chain([seed.len()]) {
            for filler in FILLERS {
                for length in [&[][..], LENGTHS[2]] {
                    let mut bytes = [&seed[..at], length].concat();
                    bytes.resize(long.max(bytes.len()), filler);
                    try_it(&bytes);
                }
            }
        }
    }
    for round in 1..20 {
        try_it(&noise(round, long));
    }
    try_it(&vec![0; parser.limit + 1]);
    try_it(&vec![b'['; long]);
    try_it(&b"[a.".repeat(long / 3));
    try_it(&b"{\"a\":".repeat(long / 5));
}

/// Throws all of it at each parser, and sees that `readme` states each bound.
///
/// # Panics
/// When a parser exceeds its bound, accepts none of its seeds, or is not in `readme`.
pub fn hold_bounds(parsers: &[&Parser], readme: &str) {
    for parser in parsers {
        let mut tried = 0u64;
        inputs(parser, |bytes| {
            parser.run(bytes);
            tried += 1;
        });
        let accepted = (parser.seeds)().iter().filter(|s| parser.run(s)).count();
        assert!(accepted > 0, "{}: no seed is accepted", parser.name);
        assert!(tried > 200, "{}: only {tried} inputs", parser.name);
        println!("{}: {tried} hostile inputs", parser.name);
    }
    let rows = parsers
        .iter()
        .map(|p| format!("| {} | {} | {} |", p.name, p.limit, p.bound));
    let missing: Vec<String> = rows.filter(|row| !readme.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "the README lacks\n{}",
        missing.join("\n")
    );
}
