//! The agent that was built for aarch64 answers as the host's does, under qemu-user.
//!
//! `DROVER_AARCH64_AGENT` names the program; `scripts/test` builds it and sets the variable.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use xtask::fleet::{programs, repository};

/// Families with float, integer and convolutional graphs that tract computes rightly.
const MODELS: [(&str, &str); 3] = [
    ("ad_tflite_qdq", "ad_in_i8.npy"),
    ("digits_cnn_qdq_s8s8_pc", "digits_cnn_in_f32.npy"),
    ("kws_f32", "kws_in_f32.npy"),
];

fn infer(mut command: Command, model: &Path, input: &Path, output: &Path) -> Vec<u8> {
    let result = command
        .arg("infer")
        .arg(model)
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(output)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{command:?}: {message}");
    std::fs::read(output).unwrap()
}

/// Values of a little-endian f32 or i8 array behind the header of an .npy file.
fn values(npy: &[u8]) -> Vec<f32> {
    let header = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
    let (text, body) = (String::from_utf8_lossy(&npy[..header]), &npy[header..]);
    if text.contains("i1") {
        return body.iter().map(|&b| f32::from(b.cast_signed())).collect();
    }
    assert!(text.contains("<f4"), "{text}");
    let (chunks, _) = body.as_chunks::<4>();
    chunks.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[test]
fn aarch64_answers_as_the_host_does() {
    let Some(program) = std::env::var_os("DROVER_AARCH64_AGENT") else {
        println!("skipped: DROVER_AARCH64_AGENT is not set, scripts/test sets it");
        return;
    };
    let shared = repository().join("../shared/models");
    if !shared.exists() {
        println!("skipped: the shared models are not beside the repository");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (model, input) in MODELS {
        let (input, model_path) = (shared.join(input), shared.join(format!("{model}.onnx")));
        let host = Command::new(programs().unwrap().join("drover-agent"));
        let host = infer(host, &model_path, &input, &folder.path().join("host.npy"));
        let mut qemu = Command::new("qemu-aarch64-static");
        qemu.args(["-cpu", "cortex-a53"]).arg(&program);
        let board = infer(qemu, &model_path, &input, &folder.path().join("board.npy"));

        let (host, board) = (values(&host), values(&board));
        assert_eq!(host.len(), board.len());
        let low = host.iter().copied().fold(f32::INFINITY, f32::min);
        let high = host.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let differ = host.iter().zip(&board).map(|(h, b)| (h - b).abs());
        let worst = differ.fold(0.0, f32::max);
        println!(
            "{model}: {} values, largest difference {worst} over a range of {}",
            host.len(),
            high - low
        );
        // Integer outputs agree to the step; sums of floats may be taken in another order.
        let bound = if model.contains("tflite") {
            0.0
        } else {
            1e-5 * (high - low)
        };
        assert!(worst <= bound, "{model}: {worst} over {bound}");
    }
}
