//! The report of a compile for people: pairs of name and value.

use drover_runtime::compile::{Difference, Report};

use crate::table::Table;

pub(super) fn table(report: &Report) -> Table {
    let mut table = Table::pairs();
    let (from, to) = (report.source_bytes, report.model_bytes);
    table.pair("numerics", report.numerics);
    table.pair("size", format!("{from} bytes, compiled {to} bytes"));
    for note in &report.notes {
        table.pair("note", note);
    }
    let reference = match report.reference {
        "given" => "outputs that were given",
        "own" => "the model as it came, computed by definition",
        "ort" => "onnxruntime",
        _ => "the engine, on the model as it came",
    };
    table.pair("compared with", reference);
    table.pair("cases", report.cases);
    table.pair("difference", difference(&report.difference));
    let same = report.difference.argmax * 100.0;
    table.pair("same largest element", format!("{same:.1} % of the cases"));
    if let Some(accuracy) = report.accuracy {
        let (of, to) = (accuracy.reference * 100.0, accuracy.compiled * 100.0);
        table.pair("accuracy", format!("{to:.2} %, reference {of:.2} %"));
    }
    table.pair("within", report.bounds.join(", "));
    let time = &report.latency;
    table.pair(
        "latency here",
        format!(
            "p50 {:.1} us, p99 {:.1} us, {} runs of one thread",
            time.p50_us, time.p99_us, time.runs
        ),
    );
    for estimate in &report.estimates {
        let name = format!("estimate {} {} MHz", estimate.core, estimate.mhz);
        let least = estimate.at_least_us;
        table.pair(
            &name,
            format!("not faster than {least:.1} us, not measured"),
        );
    }
    memory(&mut table, report);
    computation(&mut table, report);
    integer(&mut table, report);
    table
}

fn difference(found: &Difference) -> String {
    let (most, mean) = (found.max_abs, found.mean_abs);
    let share = found.max_of_range * 100.0;
    let mut text = format!("at most {most:.6}, {mean:.6} on average, {share:.4} % of the range");
    if let (Some(most), Some(mean)) = (found.max_steps, found.mean_steps) {
        text.push_str(&format!("; {most:.3} output steps, {mean:.4} on average"));
    }
    text
}

fn memory(table: &mut Table, report: &Report) {
    let footprint = &report.footprint;
    let peak = match footprint.peak_bytes {
        Some(bytes) => format!("{bytes} bytes at the peak of a run"),
        None => "not known".to_owned(),
    };
    table.pair("values in memory", peak);
    let (in_file, loaded) = (report.weight_file_bytes, footprint.weight_memory_bytes);
    table.pair(
        "weights",
        format!("{in_file} bytes in the file, {loaded} bytes in memory"),
    );
}

fn computation(table: &mut Table, report: &Report) {
    let macs = report.footprint.macs;
    table.pair("multiply-accumulates", macs);
    for kind in &report.footprint.operators {
        let (nodes, macs) = (kind.nodes, kind.macs);
        let value = match macs {
            0 => nodes.to_string(),
            macs => format!("{nodes}, {macs} multiply-accumulates"),
        };
        table.pair(&format!("operator {}", kind.operator), value);
    }
    for change in report.changes.iter().filter(|c| c.places > 0) {
        let value = format!("{} places", change.places);
        table.pair(&format!("pass {}", change.pass), value);
    }
}

fn integer(table: &mut Table, report: &Report) {
    let integer = &report.integer;
    let form = match (&integer.why_not, integer.bytes, &integer.difference) {
        (Some(why), ..) => format!("none: {why}"),
        (None, Some(bytes), Some(found)) => format!("{bytes} bytes, {}", difference(found)),
        _ => "none".to_owned(),
    };
    table.pair("form in integers", form);
}
