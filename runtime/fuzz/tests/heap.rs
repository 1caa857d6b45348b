//! Hostile bytes cost no more heap than the README says: for each parser, the largest amount
//! held at once is a small multiple of the input and a constant.

use drover_fuzz::{bundle, compile, hostile, node, sketch, trust, wire};

/// One test, because the counter stands for the whole process.
#[test]
fn no_parser_takes_more_heap_than_its_bound() {
    let all = [
        wire::PARSERS,
        node::PARSERS,
        trust::PARSERS,
        bundle::PARSERS,
        compile::PARSERS,
        sketch::PARSERS,
    ];
    let all: Vec<_> = all.into_iter().flatten().collect();
    hostile::hold_bounds(&all, include_str!("../README.md"));
}
