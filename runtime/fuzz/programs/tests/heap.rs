//! Hostile bytes cost no more heap than the README beside the library says.

use drover_fuzz::hostile;
use drover_fuzz_programs::{agent, engine, front};

/// One test, because the counter stands for the whole process.
#[test]
fn no_parser_takes_more_heap_than_its_bound() {
    let all = [agent::PARSERS, front::PARSERS, engine::PARSERS];
    let all: Vec<_> = all.into_iter().flatten().collect();
    hostile::hold_bounds(&all, include_str!("../../README.md"));
}
