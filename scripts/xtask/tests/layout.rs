//! The layout's invariants, held over `cargo metadata` and the tracked files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Normal and build dependencies of each of our crates, by package name; `dev` adds those
/// of the tests.
fn dependencies(dev: bool) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let names = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|d| dev || d["kind"] != "dev")
                .map(|d| d["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

fn ours(names: &BTreeSet<String>) -> BTreeSet<&str> {
    names
        .iter()
        .map(String::as_str)
        .filter(|n| n.starts_with("drover-"))
        .collect()
}

/// Everything of ours that `name` reaches.
fn reach(all: &BTreeMap<String, BTreeSet<String>>, name: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        for next in all.get(&name).into_iter().flatten() {
            if all.contains_key(next) && seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

#[test]
fn the_lowest_crates_depend_on_nothing_of_ours() {
    let all = dependencies(true);
    for name in ["drover-wire", "drover-trust", "drover-sketch"] {
        assert!(ours(&all[name]).is_empty(), "{name}: {:?}", all[name]);
    }
    let bundle = ours(&all["drover-bundle"]);
    let allowed = BTreeSet::from(["drover-wire", "drover-trust", "drover-sketch"]);
    assert!(bundle.is_subset(&allowed), "drover-bundle: {bundle:?}");
    let node = ours(&all["drover-node"]);
    assert!(node.is_subset(&BTreeSet::from(["drover-wire"])), "{node:?}");
}

#[test]
fn sans_io_crates_name_no_io() {
    let all = dependencies(false);
    for name in ["drover-agent-core", "drover-rollout", "drover-drift"] {
        for banned in ["tokio", "sled", "rumqttc", "axum", "sqlx"] {
            assert!(!all[name].contains(banned), "{name} depends on {banned}");
        }
    }
}

#[test]
fn agent_and_server_never_meet() {
    let all = dependencies(false);
    let agent = ["drover-agent", "drover-agent-core", "drover-agent-store"];
    let server = [
        "drover-server",
        "drover-api",
        "drover-rollout",
        "drover-drift",
        "drover-attack",
        "drover-cli",
    ];
    for a in agent {
        let reached = reach(&all, a);
        for s in server {
            assert!(!reached.contains(s), "{a} reaches {s}");
        }
    }
    for s in server {
        let reached = reach(&all, s);
        for a in agent {
            assert!(!reached.contains(a), "{s} reaches {a}");
        }
    }
}

#[test]
fn only_the_runtime_names_tract() {
    let all = dependencies(true);
    for (name, dependencies) in &all {
        let tract = dependencies.iter().any(|d| d.starts_with("tract"));
        assert_eq!(tract, name == "drover-runtime", "{name}");
    }
    for file in tracked() {
        // The operator tests hold the engine's library itself to what ONNX publishes.
        let may = ["runtime/src/engine", "runtime/tests/onnx_nodes"];
        let is_source = file.ends_with(".rs") && !may.iter().any(|p| file.starts_with(p));
        if !is_source || file == "scripts/xtask/tests/layout.rs" {
            continue;
        }
        let text = std::fs::read_to_string(repository().join(&file)).unwrap();
        assert!(!text.contains("tract_onnx::"), "{file} names tract's types");
    }
}

#[test]
fn the_top_level_is_fixed() {
    let allowed = BTreeSet::from([
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "agent",
        "firmware",
        "fleet-server",
        "runtime",
        "scripts",
        "targets",
    ]);
    for file in tracked() {
        let top = file.split('/').next().unwrap();
        assert!(
            top.starts_with('.') || allowed.contains(top),
            "{top} does not belong at the top level"
        );
    }
}

#[test]
fn every_crate_and_folder_says_what_it_is() {
    let root = repository();
    for folder in [
        ".",
        "agent",
        "agent/core",
        "agent/store",
        "fleet-server",
        "fleet-server/api",
        "fleet-server/attack",
        "fleet-server/cli",
        "fleet-server/drift",
        "fleet-server/rollout",
        "firmware",
        "firmware/boards",
        "firmware/node",
        "runtime",
        "runtime/bundle",
        "runtime/fuzz",
        "runtime/sketch",
        "runtime/trust",
        "runtime/wire",
        "scripts",
        "scripts/models",
        "targets",
    ] {
        let readme = root.join(folder).join("README.md");
        assert!(readme.exists(), "{} is missing", readme.display());
    }
    for file in tracked().iter().filter(|f| f.ends_with(".rs")) {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.starts_with("//!"), "{file} does not open with //!");
    }
}

fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(repository())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split('\0')
        .filter(|f| !f.is_empty() && repository().join(f).exists())
        .map(str::to_owned)
        .collect()
}
