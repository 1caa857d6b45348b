//! What compiling a model costs and brings.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::fleet::repository;

/// Prints all figures; the runtime's own benchmark measures them.
///
/// # Errors
/// When it cannot be built or run.
pub(super) fn run(quick: bool) -> anyhow::Result<()> {
    let program = build()?;
    // On one processor, where that can be asked for: the engine's times are of one thread.
    let pinned = Command::new("taskset")
        .args(["-c", "0", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = match pinned {
        true => {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(&program);
            command
        }
        false => Command::new(&program),
    };
    if quick {
        command.arg("--quick");
    }
    ensure!(command.status()?.success(), "the benchmark failed");
    Ok(())
}

/// The benchmark's program, built apart so that the build is not pinned.
fn build() -> anyhow::Result<OsString> {
    let output = Command::new("cargo")
        .args(["bench", "--locked", "--package", "drover-runtime"])
        .args(["--bench", "compile", "--no-run"])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the benchmark does not build");
    let messages = String::from_utf8(output.stdout)?;
    let program = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_ours = message["target"]["name"] == "compile";
        let program = message["executable"].as_str();
        program.filter(|_| is_ours).map(OsString::from)
    });
    program.context("cargo names no program of the benchmark")
}
