//! What trust costs: verification, connections, and room on a microcontroller.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::connect;
use crate::fleet::repository;

/// A Cortex-M4 with a floating-point unit, as in `targets/mps2-an386`.
const TRIPLE: &str = "thumbv7em-none-eabihf";

/// Prints all figures; what cannot be measured is a line with its reason.
///
/// # Errors
/// When the benchmark of verification cannot be run at all.
pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    verification(quick)?;
    let sizes = sizes().map(|bytes| (bytes, 1, 0.0));
    figure("verifier_thumbv7em_bytes", "bytes", "lower", sizes);
    figure(
        "tls_connects_per_s",
        "1/s",
        "higher",
        connect::per_second(quick),
    );
    Ok(())
}

fn figure(figure: &str, unit: &str, better: &str, value: anyhow::Result<(f64, u32, f64)>) {
    let line = match value {
        Ok((value, n, spread)) => json!({
            "bench": "trust", "figure": figure, "value": value, "unit": unit,
            "goal": null, "better": better, "n": n, "spread": spread,
        }),
        Err(why) => json!({
            "bench": "trust", "figure": figure, "value": null, "unit": unit,
            "goal": null, "better": better, "why": format!("{why:#}"),
        }),
    };
    println!("{line}");
}

/// Manifests and whole bundles; the bundle crate's own benchmark prints these lines.
fn verification(quick: bool) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--locked", "--package", "drover-bundle"])
        .args(["--bench", "trust", "--"])
        .current_dir(repository())
        .stderr(Stdio::inherit());
    if quick {
        command.arg("--quick");
    }
    ensure!(command.status()?.success(), "the bundle's benchmark failed");
    Ok(())
}

/// Code and constants that the verifier adds to a program, in bytes: the difference of two
/// programs, at `opt-level = "s"`.
fn sizes() -> anyhow::Result<f64> {
    let manifest = repository().join("runtime/trust/size/Cargo.toml");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), Into::into)
        .join("size");
    let linker = format!("target.{TRIPLE}.linker='ld.lld'");
    let flavor = format!("target.{TRIPLE}.rustflags=['-C','linker-flavor=ld.lld']");
    // As scripts/build-target does without rustup: Debian's compiler, and the library's source.
    let status = Command::new("/usr/bin/cargo")
        .args(["build", "--locked", "--release", "-Zbuild-std=core,alloc"])
        .args(["--target", TRIPLE, "--config", &linker, "--config", &flavor])
        .arg("--manifest-path")
        .arg(&manifest)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        // Of the cargo that runs this program, where there is one.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .context("Debian's cargo is missing; run: scripts/setup test")?;
    ensure!(status.success(), "the programs for {TRIPLE} do not build");
    let folder = target.join(TRIPLE).join("release");
    let with = flash_bytes(&folder.join("with"))?;
    let without = flash_bytes(&folder.join("without"))?;
    ensure!(
        with > without,
        "the verifier was left out: {with} and {without}"
    );
    Ok(f64::from(with - without))
}

/// Bytes of `.text` and `.rodata`.
fn flash_bytes(program: &Path) -> anyhow::Result<u32> {
    let output = Command::new("readelf").arg("-SW").arg(program).output()?;
    ensure!(
        output.status.success(),
        "readelf {} failed",
        program.display()
    );
    let text = String::from_utf8(output.stdout)?;
    let mut bytes = 0;
    for section in [".text", ".rodata"] {
        let row = text.lines().find_map(|line| line.split_once(section));
        let (_, row) = row.with_context(|| format!("no {section} in {}", program.display()))?;
        // Behind the name: type, address, offset, size.
        let size = row
            .split_whitespace()
            .nth(3)
            .context("a row without a size")?;
        bytes += u32::from_str_radix(size, 16)?;
    }
    Ok(bytes)
}
