//! Reference outputs by onnxruntime, in a Python that has it.
//!
//! A script of this crate runs over files in a temporary folder, which goes with the call,
//! whatever comes of it.

use std::path::Path;
use std::process::Command;

use drover_bundle::Tensor;

use super::CompileError;
use crate::npy;

/// What Python runs.
const SCRIPT: &str = include_str!("ort.py");
/// What is asked for when nobody names a Python.
const PYTHON: &str = "python3";

/// The first output for each case.
pub(super) fn outputs(
    model: &[u8],
    cases: &[Tensor],
    python: Option<&Path>,
) -> Result<Vec<Tensor>, CompileError> {
    let python = python.unwrap_or(Path::new(PYTHON));
    let exchange = |source: std::io::Error| CompileError::Exchange(source.into());
    let folder = tempfile::tempdir().map_err(exchange)?;
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ort.py"), SCRIPT).map_err(exchange)?;
    std::fs::write(path("model.onnx"), model).map_err(exchange)?;
    let inputs = super::cases::joined(cases).map_err(|e| CompileError::Exchange(e.into()))?;
    npy::write(&path("inputs.npy"), &inputs).map_err(|e| CompileError::Exchange(e.into()))?;

    let failed = |message: String| CompileError::Ort {
        python: python.to_owned(),
        message,
    };
    let run = Command::new(python)
        .arg(path("ort.py"))
        .args([path("model.onnx"), path("inputs.npy"), path("outputs.npy")])
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        let last = said.lines().rev().find(|l| !l.trim().is_empty());
        return Err(failed(last.unwrap_or("it said nothing").to_owned()));
    }
    let made = npy::read(&path("outputs.npy")).map_err(|e| CompileError::Exchange(e.into()))?;
    super::cases::parted(&made).ok_or_else(|| failed("it gave no outputs".to_owned()))
}
