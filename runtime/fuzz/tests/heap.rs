//! Hostile bytes cost no more heap than the README says: for each parser, the largest amount
//! held at once is a small multiple of the input and a constant.

use drover_fuzz::{Parser, bundle, hostile, node, sketch, trust, wire};

/// One test, because the counter stands for the whole process.
#[test]
fn no_parser_takes_more_heap_than_its_bound() {
    let all = [
        wire::PARSERS,
        node::PARSERS,
        trust::PARSERS,
        bundle::PARSERS,
        sketch::PARSERS,
    ];
    for parser in all.into_iter().flatten() {
        let mut inputs = 0u64;
        hostile::inputs(parser, |bytes| {
            parser.run(bytes);
            inputs += 1;
        });
        let accepted = (parser.seeds)().iter().filter(|s| parser.run(s)).count();
        assert!(accepted > 0, "{}: no seed is accepted", parser.name);
        assert!(inputs > 200, "{}: only {inputs} inputs", parser.name);
        println!("{}: {inputs} hostile inputs", parser.name);
    }
    readme_states(all.into_iter().flatten());
}

/// The README's table is what is asserted.
fn readme_states<'p>(parsers: impl Iterator<Item = &'p Parser>) {
    let readme = include_str!("../README.md");
    let rows = parsers.map(|p| format!("| {} | {} | {} |", p.name, p.limit, p.bound));
    let missing: Vec<String> = rows.filter(|row| !readme.contains(row)).collect();
    assert!(
        missing.is_empty(),
        "the README lacks\n{}",
        missing.join("\n")
    );
}
