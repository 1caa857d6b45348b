//! A manifest for people: pairs of name and value.

use drover_bundle::{Decision, Normalisation, Quantisation, Scoring, TensorSpec, Tolerance};

use super::{NumericsView, View};
use crate::clock;
use crate::table::Table;

pub(super) fn table(view: &View<'_>) -> Table {
    let mut table = Table::pairs();
    table.pair("name", view.name);
    table.pair("version", view.version);
    table.pair("counter", view.counter);
    table.pair("security epoch", view.epoch);
    table.pair("created", clock::show_s(view.created_unix_s));
    if !view.description.is_empty() {
        table.pair("description", view.description);
    }
    table.pair("digest", view.digest);
    table.pair("signatures", signatures(view));
    table.pair("files", view.damage.as_deref().unwrap_or("intact"));
    for file in &view.files {
        let value = format!(
            "{}, {} bytes, SHA-256 {}",
            file.role, file.size, file.sha256
        );
        table.pair(&format!("file {}", file.name), value);
    }
    let (size, count) = (view.chunking.chunk_bytes, view.chunking.digests.len());
    let total = view.total_bytes;
    table.pair(
        "chunks",
        format!("{count} of {size} bytes, {total} bytes in all"),
    );
    requires(&mut table, view);
    input(&mut table, view);
    output(&mut table, view);
    golden(&mut table, view);
    if let Some(numerics) = &view.numerics {
        validated(&mut table, numerics);
    }
    for feature in view.baseline.iter().flatten() {
        let value = format!(
            "{} values in {} bins, every {}. counted, {} to {}, mean {}, deviation {}",
            feature.values,
            feature.bins,
            feature.stride,
            feature.min,
            feature.max,
            feature.mean,
            feature.std,
        );
        table.pair(&format!("baseline {}", feature.name), value);
    }
    origin(&mut table, view);
    table
}

fn origin(table: &mut Table, view: &View<'_>) {
    let from = view.lineage;
    let texts = [
        &from.training_run,
        &from.data_version,
        &from.commit,
        &from.approved_by,
    ];
    lineage(table, texts, from.end_of_support_unix_s);
    for c in view.components {
        component(table, &c.name, &c.version, &c.purl);
    }
}

/// Training run, data version, commit and approval of a model, as far as they are said.
pub(crate) fn lineage(table: &mut Table, texts: [&String; 4], end_of_support: Option<u64>) {
    let names = ["training run", "data version", "commit", "approved by"];
    for (name, value) in names.into_iter().zip(texts) {
        if !value.is_empty() {
            table.pair(name, value);
        }
    }
    if let Some(end) = end_of_support {
        table.pair("end of support", clock::show_s(end));
    }
}

/// Something that a model was made of or with.
pub(crate) fn component(table: &mut Table, name: &str, version: &str, purl: &str) {
    let value = match purl {
        "" => version.to_owned(),
        purl => format!("{version}, {purl}"),
    };
    table.pair(&format!("component {name}"), value);
}

fn signatures(view: &View<'_>) -> String {
    if view.signatures.is_empty() {
        return "none".to_owned();
    }
    format!("by {}, not checked here", view.signatures.join(", "))
}

fn requires(table: &mut Table, view: &View<'_>) {
    let requires = view.requires;
    table.pair("engine", &requires.engine);
    let arch = match requires.arch.is_empty() {
        true => "any".to_owned(),
        false => requires.arch.join(", "),
    };
    table.pair("architectures", arch);
    table.pair("memory", format!("{} bytes", requires.memory_bytes));
}

fn input(table: &mut Table, view: &View<'_>) {
    let input = view.input;
    table.pair("input", tensor(&input.tensor, input.quantisation));
    let window = input.window;
    table.pair(
        "window",
        format!(
            "{} rows, a new one every {}",
            window.rows,
            rows(window.stride)
        ),
    );
    table.pair("normalisation", normalisation(&input.normalisation));
    for (i, channel) in input.channels.iter().enumerate() {
        let mut value = match channel.unit.as_str() {
            "" => "no unit".to_owned(),
            unit => unit.to_owned(),
        };
        if let Normalisation::ZScore { mean, std, .. } = &input.normalisation
            && let (Some(mean), Some(std)) = (mean.get(i), std.get(i))
        {
            value.push_str(&format!(", mean {mean}, deviation {std}"));
        }
        table.pair(&format!("channel {}", channel.name), value);
    }
}

fn output(table: &mut Table, view: &View<'_>) {
    let output = view.output;
    table.pair("output", tensor(&output.tensor, output.quantisation));
    table.pair("scoring", scoring(&output.scoring));
    table.pair("decision", decision(&output.decision));
}

fn golden(table: &mut Table, view: &View<'_>) {
    let cases = match view.golden_cases {
        Some(n) => format!("{n} cases"),
        None => "unreadable".to_owned(),
    };
    let tolerance = match view.tolerance {
        Tolerance::Steps(steps) => format!("within {steps} quantisation steps"),
        Tolerance::RangeFraction(f) => format!("within {} % of the range", f * 100.0),
    };
    table.pair("golden vectors", format!("{cases}, {tolerance}"));
}

fn validated(table: &mut Table, view: &NumericsView<'_>) {
    let of = format!("{} numerics by {}", view.numerics, view.compiler);
    table.pair("compiled to", of);
    table.pair("compiled from", format!("SHA-256 {}", view.source_sha256));
    let against = format!("{} cases, reference {}", view.cases, view.reference);
    table.pair("validated on", against);
    let (most, mean) = (view.max_abs, view.mean_abs);
    let mut difference = format!("at most {most}, {mean} on average");
    if let (Some(most), Some(mean)) = (view.max_steps, view.mean_steps) {
        difference.push_str(&format!(", {most:.2} and {mean:.3} output steps"));
    }
    difference.push_str(&format!("; the same class in {:.1} %", view.argmax * 100.0));
    table.pair("difference", difference);
}

fn tensor(tensor: &TensorSpec, quantisation: Option<Quantisation>) -> String {
    let mut text = format!("\"{}\" {} {:?}", tensor.name, tensor.dtype, tensor.shape);
    if let Some(q) = quantisation {
        text.push_str(&format!(", scale {}, zero point {}", q.scale, q.zero_point));
    }
    text
}

fn rows(n: u32) -> String {
    match n {
        1 => "row".to_owned(),
        n => format!("{n} rows"),
    }
}

pub(in crate::bundle) fn normalisation(normalisation: &Normalisation) -> String {
    match normalisation {
        Normalisation::None => "none".to_owned(),
        Normalisation::ZScore { clip, .. } => format!("z-score, clipped to +-{clip}"),
        Normalisation::CalibratedZScore {
            rows,
            epsilon,
            clip,
        } => format!(
            "z-score of the first {rows} rows of each stream, epsilon {epsilon}, clipped to \
             +-{clip}"
        ),
    }
}

fn scoring(scoring: &Scoring) -> String {
    match scoring {
        Scoring::First => "first element of the output".to_owned(),
        Scoring::ReconstructionMse => "mean squared error of the reconstruction".to_owned(),
        Scoring::Classification {
            labels,
            probabilities,
        } => {
            let what = if *probabilities {
                "probability"
            } else {
                "softmax"
            };
            format!("class by largest {what}: {}", labels.join(", "))
        }
    }
}

fn decision(decision: &Decision) -> String {
    let of = |n: u32| match n {
        1 => "the score".to_owned(),
        n => format!("the median of {n} scores"),
    };
    match decision {
        Decision::None => "none".to_owned(),
        Decision::Threshold {
            threshold,
            median_of,
        } => format!("anomalous when {} is above {threshold}", of(*median_of)),
        Decision::CalibratedQuantile {
            windows,
            quantile,
            factor,
            median_of,
        } => format!(
            "anomalous when {} is above {factor} times the {quantile} quantile of the first \
             {windows} scores of each stream",
            of(*median_of)
        ),
    }
}
