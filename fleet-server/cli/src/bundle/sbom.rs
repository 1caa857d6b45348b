//! `drover bundle sbom`: a bundle as CycloneDX 1.6 says it, for whoever keeps an inventory.
//!
//! The document is made of the manifest alone, so that the same bundle always gives the same
//! document, its serial number and time stamp included. A damaged bundle is refused. Who
//! signed is not checked: `drover bundle verify` does that.

use std::path::PathBuf;

use clap::Args;
use drover_bundle::{
    Component, DType, Decision, FileEntry, FileRole, Manifest, Quantisation, Scoring, TensorSpec,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::inspect::{Digest, normalisation, role_name};
use crate::clock;
use crate::error::{CliError, Result};
use crate::file;
use crate::output::Output;

#[derive(Debug, Args)]
pub(crate) struct Sbom {
    /// Bundle file
    bundle: PathBuf,
    /// Where to write the document, JSON
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Serialize)]
struct Written<'a> {
    file: &'a PathBuf,
    digest: Digest,
    components: usize,
}

pub(super) fn run(args: &Sbom, out: &Output) -> Result<()> {
    let (_, container) = super::read(&args.bundle)?;
    let manifest = container
        .open_unsigned()
        .map_err(|source| CliError::Bundle {
            path: args.bundle.clone(),
            source,
        })?;
    let digest = Digest::of(&container.envelope);
    // Indented: people read it too, and line by line comparisons show what changed.
    let text = format!("{:#}\n", document(&manifest, digest));
    file::replace(&args.output, text.as_bytes())?;
    let written = Written {
        file: &args.output,
        digest,
        components: manifest.components.len(),
    };
    out.show_lines(&written, || {
        format!(
            "{}: CycloneDX 1.6 of {} {}, {} files, {} components",
            args.output.display(),
            manifest.name,
            manifest.version,
            manifest.files.len(),
            manifest.components.len(),
        )
    })
}

fn document(manifest: &Manifest, digest: Digest) -> Value {
    let model_ref = format!("bundle:{digest}");
    let files = manifest.files.iter().map(file_component);
    let parts = manifest.components.iter().map(part);
    let components: Vec<Value> = files.chain(parts).collect();
    let depends_on: Vec<Value> = components.iter().map(|c| c["bom-ref"].clone()).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(digest),
        "version": 1,
        "metadata": {
            "timestamp": clock::show_s(manifest.created_unix_s),
            "tools": { "components": [{
                "type": "application",
                "name": "drover",
                "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": model(manifest, digest, &model_ref),
        },
        "components": components,
        "dependencies": [{ "ref": model_ref, "dependsOn": depends_on }],
    })
}

/// A UUID of version 8 made of the digest: one bundle has one document.
fn serial_number(digest: Digest) -> String {
    let mut hash = Sha256::new();
    hash.update(b"drover/sbom/v1");
    hash.update(digest.0);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&uuid);
    format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn model(manifest: &Manifest, digest: Digest, model_ref: &str) -> Value {
    let lineage = &manifest.lineage;
    let mut properties = vec![
        property("bundle:digest", digest),
        property("bundle:counter", manifest.counter),
        property("bundle:epoch", manifest.epoch),
        property("requires:engine", &manifest.requires.engine),
        property("requires:arch", manifest.requires.arch.join(",")),
        property("requires:memory_bytes", manifest.requires.memory_bytes),
    ];
    for (name, value) in [
        ("lineage:training_run", &lineage.training_run),
        ("lineage:data_version", &lineage.data_version),
        ("lineage:commit", &lineage.commit),
        ("lineage:approved_by", &lineage.approved_by),
    ] {
        if !value.is_empty() {
            properties.push(property(name, value));
        }
    }
    if let Some(end) = lineage.end_of_support_unix_s {
        properties.push(property("lineage:end_of_support", clock::show_s(end)));
    }
    let mut model = json!({
        "type": "machine-learning-model",
        "bom-ref": model_ref,
        "name": manifest.name,
        "version": manifest.version,
        "modelCard": card(manifest),
        "properties": properties,
    });
    if !manifest.description.is_empty() {
        model["description"] = manifest.description.clone().into();
    }
    if let Some(file) = manifest.file(FileRole::Model) {
        model["hashes"] = hashes(file);
    }
    if !lineage.commit.is_empty() {
        model["pedigree"] = json!({ "commits": [{ "uid": lineage.commit }] });
    }
    model
}

fn card(manifest: &Manifest) -> Value {
    let (input, output) = (&manifest.input, &manifest.output);
    let task = match (&output.scoring, &output.decision) {
        (Scoring::Classification { .. }, _) => "classification",
        (Scoring::ReconstructionMse, _) => "anomaly-detection",
        (Scoring::First, Decision::None) => "regression",
        (Scoring::First, _) => "anomaly-detection",
    };
    let mut parameters = json!({
        "task": task,
        "inputs": [{ "format": tensor(&input.tensor) }],
        "outputs": [{ "format": tensor(&output.tensor) }],
    });
    let data = &manifest.lineage.data_version;
    if !data.is_empty() {
        parameters["datasets"] = json!([{ "type": "dataset", "name": data }]);
    }
    let channels: Vec<String> = input.channels.iter().map(channel).collect();
    let mut properties = vec![
        property(
            "quantisation:input",
            quantisation(&input.tensor, input.quantisation),
        ),
        property(
            "quantisation:output",
            quantisation(&output.tensor, output.quantisation),
        ),
        property("input:channels", channels.join(", ")),
        property("input:window_rows", input.window.rows),
        property("input:window_stride", input.window.stride),
        property("input:normalisation", normalisation(&input.normalisation)),
    ];
    if let Scoring::Classification { labels, .. } = &output.scoring {
        properties.push(property("output:labels", labels.join(", ")));
    }
    json!({ "modelParameters": parameters, "properties": properties })
}

fn channel(channel: &drover_bundle::Channel) -> String {
    match channel.unit.as_str() {
        "" => channel.name.clone(),
        unit => format!("{} [{unit}]", channel.name),
    }
}

fn tensor(tensor: &TensorSpec) -> String {
    format!("\"{}\" {} {:?}", tensor.name, tensor.dtype, tensor.shape)
}

fn quantisation(tensor: &TensorSpec, quantisation: Option<Quantisation>) -> String {
    match (tensor.dtype, quantisation) {
        (DType::F32, _) | (_, None) => format!("none, {}", tensor.dtype),
        (dtype, Some(q)) => format!(
            "affine {dtype}, scale {}, zero point {}",
            q.scale, q.zero_point
        ),
    }
}

fn file_component(file: &FileEntry) -> Value {
    json!({
        "type": "file",
        "bom-ref": format!("file:{}", file.name),
        "name": file.name,
        "hashes": hashes(file),
        "properties": [property("file:role", role_name(file.role)), property("file:bytes", file.size)],
    })
}

fn part(component: &Component) -> Value {
    let mut part = json!({
        "type": part_type(&component.purl),
        "bom-ref": format!("component:{}@{}", component.name, component.version),
        "name": component.name,
        "version": component.version,
    });
    if !component.purl.is_empty() {
        part["purl"] = component.purl.clone().into();
    }
    part
}

/// What a package URL says of the kind of a component; without one most are libraries.
fn part_type(purl: &str) -> &'static str {
    match purl {
        _ if purl.starts_with("pkg:huggingface/datasets/") => "data",
        _ if purl.starts_with("pkg:huggingface/") || purl.starts_with("pkg:mlflow/") => {
            "machine-learning-model"
        }
        _ => "library",
    }
}

fn hashes(file: &FileEntry) -> Value {
    json!([{ "alg": "SHA-256", "content": Digest(file.sha256).to_string() }])
}

fn property(name: &str, value: impl ToString) -> Value {
    json!({ "name": format!("drover:{name}"), "value": value.to_string() })
}
