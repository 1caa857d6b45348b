//! What a bundle says of its origin, and exports of it, judged by other people's programs
//! from the folder that `scripts/setup test` makes (or `DROVER_VENV_TOOLS` names).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::drover::{drover, drover_with, keys};

const ORIGIN: &str = r#"
[lineage]
training_run = "runs/417"
data_version = "pump-rows-2026-10"
commit = "5f3c2a9d"
approved_by = "Ada Lovelace"
end_of_support_unix_s = 1900000000

[[component]]
name = "torch"
version = "2.9.0"
purl = "pkg:pypi/torch@2.9.0"
[[component]]
name = "base-autoencoder"
version = "1.2"
purl = "pkg:huggingface/acme/base-autoencoder@1.2"
[[component]]
name = "pump-scaler"
version = "0.3.1"
"#;

/// A program of the tools' folder; says so where it is missing.
fn tool(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("DROVER_VENV_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/venv-tools"),
        PathBuf::from,
    );
    let path = folder.join("bin").join(name);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not there; run `scripts/setup test`",
        path.display()
    );
    None
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// An unsigned bundle of the pump's model that names its origin, in `folder`.
fn bundle(folder: &Path) -> PathBuf {
    let pump = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/models/pump");
    for entry in pump.read_dir().unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let spec = folder.join("pump-1.0.0.toml");
    let right = std::fs::read_to_string(&spec).unwrap();
    let (model, _) = right.split_once("[lineage]").unwrap();
    let epoch = model.replace("counter = 1", "counter = 1\nepoch = 4");
    std::fs::write(&spec, format!("{epoch}\n{ORIGIN}")).unwrap();
    let bundle = folder.join("pump.drover");
    let args = [
        "bundle",
        "build",
        &text(&spec),
        "--created",
        "1700000000",
        "-o",
    ];
    drover(args.into_iter().chain([text(&bundle).as_str()])).ok();
    bundle
}

#[test]
fn origin_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(&bundle(folder.path()));
    let shown = drover(["bundle", "inspect", &bundle]).ok();
    for line in [
        "epoch\t4",
        "training run\truns/417",
        "approved by\tAda Lovelace",
        "end of support\t2030-03-17T17:46:40Z",
        "component torch\t2.9.0, pkg:pypi/torch@2.9.0",
        "component pump-scaler\t0.3.1\n",
    ] {
        assert!(shown.contains(line), "{shown} lacks {line}");
    }
    let json = drover(["--json", "bundle", "inspect", &bundle]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["epoch"], 4);
    assert_eq!(json["lineage"]["commit"], "5f3c2a9d");
    assert_eq!(json["components"][1]["name"], "base-autoencoder");
}

fn property<'a>(of: &'a Value, name: &str) -> &'a str {
    let all = of["properties"].as_array().unwrap();
    let found = all.iter().find(|p| p["name"] == name);
    found.unwrap_or(&Value::Null)["value"]
        .as_str()
        .unwrap_or("")
}

#[test]
fn a_bill_of_materials_says_what_the_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(&bundle(folder.path()));
    let sbom = folder.path().join("sbom.json");
    let write = |to: &Path| drover(["bundle", "sbom", &bundle, "-o", &text(to)]);
    write(&sbom).ok();
    let bytes = std::fs::read(&sbom).unwrap();
    let again = folder.path().join("again.json");
    write(&again).ok();
    assert_eq!(bytes, std::fs::read(&again).unwrap(), "not reproducible");

    let shown = drover(["--json", "bundle", "inspect", &bundle]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let bom: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (&bom["bomFormat"], &bom["specVersion"]),
        (&json!("CycloneDX"), &json!("1.6"))
    );
    assert_eq!(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let model = &bom["metadata"]["component"];
    assert_eq!(model["type"], "machine-learning-model");
    assert_eq!(model["hashes"][0]["content"], shown["files"][0]["sha256"]);
    assert_eq!(property(model, "drover:bundle:digest"), shown["digest"]);
    assert_eq!(property(model, "drover:bundle:epoch"), "4");
    assert_eq!(
        property(model, "drover:lineage:approved_by"),
        "Ada Lovelace"
    );
    assert_eq!(model["pedigree"]["commits"][0]["uid"], "5f3c2a9d");
    let card = &model["modelCard"];
    let input = &card["modelParameters"]["inputs"][0]["format"];
    assert_eq!(input, "\"window\" f32 [1, 96]");
    assert_eq!(property(card, "drover:quantisation:input"), "none, f32");
    let named = |c: &Value| (c["type"].clone(), c["name"].clone());
    let components = bom["components"].as_array().unwrap();
    let components: Vec<_> = components.iter().map(named).collect();
    let wanted = [
        ("file", "model.onnx"),
        ("file", "golden.bin"),
        ("file", "baseline.bin"),
        ("library", "torch"),
        ("machine-learning-model", "base-autoencoder"),
        ("library", "pump-scaler"),
    ];
    assert_eq!(
        components,
        wanted.map(|(kind, name)| (json!(kind), json!(name)))
    );
    assert_eq!(
        bom["dependencies"][0]["dependsOn"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
}

const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
";

#[test]
fn the_schema_of_cyclonedx_accepts_it() {
    let Some(python) = tool("python") else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = text(&bundle(folder.path()));
    let sbom = folder.path().join("sbom.json");
    drover(["bundle", "sbom", &bundle, "-o", &text(&sbom)]).ok();
    let validate = || run(Command::new(&python).args(["-c", VALIDATE]).arg(&sbom));
    let judged = validate();
    assert!(judged.status.success(), "{}", said(&judged));

    let wrong = std::fs::read_to_string(&sbom).unwrap();
    std::fs::write(&sbom, wrong.replace("\"SHA-256\"", "\"SHA-257\"")).unwrap();
    assert!(
        !validate().status.success(),
        "the validator accepts anything"
    );
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn model_signing_verifies_an_export_until_a_file_is_changed() {
    let Some(model_signing) = tool("model_signing") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let bundle = text(&bundle(folder.path()));
    drover(["keys", "oms", "--no-passphrase", "--out", &at("oms.pem")]).ok();
    let export = |to: &str| {
        let args = [
            "bundle",
            "export-oms",
            &bundle,
            "--key",
            &at("oms.pem"),
            "-o",
            &at(to),
        ];
        drover(args)
    };
    export("pump").ok();
    let verify = |key: &str| {
        let signature = at("pump/model.sig");
        let args = [
            "verify",
            "key",
            &at("pump"),
            "--signature",
            &signature,
            "--public_key",
            &at(key),
        ];
        run(Command::new(&model_signing).args(args))
    };
    let judged = verify("oms.pem.pub");
    assert!(judged.status.success(), "{}", said(&judged));
    assert!(
        said(&judged).contains("Verification succeeded"),
        "{}",
        said(&judged)
    );

    drover(["keys", "oms", "--no-passphrase", "--out", &at("other.pem")]).ok();
    assert!(!verify("other.pem.pub").status.success(), "any key will do");
    for name in ["model.onnx", "golden.bin", "baseline.bin"] {
        let path = folder.path().join("pump").join(name);
        let right = std::fs::read(&path).unwrap();
        let mut wrong = right.clone();
        wrong[right.len() / 2] ^= 1;
        std::fs::write(&path, &wrong).unwrap();
        let judged = verify("oms.pem.pub");
        assert!(
            !judged.status.success() && said(&judged).contains(name),
            "{}",
            said(&judged)
        );
        std::fs::write(&path, &right).unwrap();
    }
    std::fs::write(at("pump/extra.bin"), b"more").unwrap();
    assert!(
        !verify("oms.pem.pub").status.success(),
        "an extra file is accepted"
    );
    std::fs::remove_file(at("pump/extra.bin")).unwrap();
    assert!(verify("oms.pem.pub").status.success());
}

#[test]
fn exports_leave_nothing_half_done_and_ask_for_the_right_key() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let keys = keys(folder.path());
    let bundle = bundle(folder.path());
    drover(["keys", "oms", "--no-passphrase", "--out", &at("oms.pem")]).ok();
    let message = drover(["keys", "oms", "--no-passphrase", "--out", &at("oms.pem")]).refused();
    assert!(message.contains("not overwritten"), "{message}");
    let export = |key: &str, more: &[&str]| {
        let bundle = text(&bundle);
        let out = at("pump");
        let mut args = vec!["bundle", "export-oms", &bundle, "--key", key, "-o", &out];
        args.extend(more);
        drover(args)
    };
    let message = export(&text(&keys.join("release-1.key")), &[]).refused();
    assert!(message.contains("no P-256 private key"), "{message}");
    let root = text(&keys.join("root.drover-root"));
    let message = export(&at("oms.pem"), &["--root", &root]).refused();
    assert!(
        message.contains("0 of 2 needed release signatures"),
        "{message}"
    );
    assert!(!folder.path().join("pump").exists());
    export(&at("oms.pem"), &[]).ok();
    let message = export(&at("oms.pem"), &[]).refused();
    assert!(message.contains("exists already"), "{message}");

    let mut bytes = std::fs::read(&bundle).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&bundle, bytes).unwrap();
    let sbom = drover(["bundle", "sbom", &text(&bundle), "-o", &at("no.json")]);
    assert!(sbom.refused().contains("differs from what was signed"));
    let names = folder.path().read_dir().unwrap();
    let hidden = names.filter(|e| {
        e.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(hidden.count(), 0, "temporary files are left");
}

#[test]
fn a_passphrase_protects_the_key_of_exports() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| text(&folder.path().join(name));
    let bundle = text(&bundle(folder.path()));
    std::fs::write(at("right"), "correct horse battery\n").unwrap();
    std::fs::write(at("wrong"), "correct horse batterie\n").unwrap();
    let make = [
        "keys",
        "oms",
        "--passphrase-file",
        &at("right"),
        "--out",
        &at("oms.pem"),
    ];
    drover(make).ok();
    let key = std::fs::read_to_string(at("oms.pem")).unwrap();
    assert!(
        key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"),
        "{key}"
    );
    let key = at("oms.pem");
    let out = at("pump");
    let export = ["bundle", "export-oms", &bundle, "--key", &key, "-o", &out];
    let asked = drover(export);
    assert_eq!(asked.code, 2, "nobody can be asked here: {}", asked.err);
    assert!(
        asked.err.contains("DROVER_PASSPHRASE_FILE"),
        "{}",
        asked.err
    );
    let with =
        |name: &str| drover_with("DROVER_PASSPHRASE_FILE", &folder.path().join(name), export);
    let message = with("wrong").refused();
    assert!(message.contains("oms.pem"), "{message}");
    assert!(!folder.path().join("pump").exists());
    with("right").ok();
    assert!(folder.path().join("pump/model.sig").exists());
}
