//! The tests of quantisation, each compiled and run as a device would.
//!
//! Each output is compiled by itself, because an engine gives one. What fails must be on the
//! list of what the compiler does not take, and what is on the list must fail.

use std::error::Error as _;

use drover_bundle::compile::{Numerics, compile};
use drover_bundle::{DType, Tensor};
use drover_runtime::{Engine as _, LoadOptions, TractEngine};
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

use super::attempt;
use super::case::{self, Case};
use super::judge;

/// What names of tests of quantisation contain.
const WORDS: [&str; 4] = ["quantizelinear", "qlinear", "convinteger", "matmulinteger"];
/// Tests that need what is not taken, and what that is.
const NOT_TAKEN: [(&str, &str); 23] = [
    ("dequantizelinear_blocked", "blocked scales"),
    ("dequantizelinear_e4m3fn", "8-bit floats"),
    ("dequantizelinear_e4m3fn_float16", "8-bit floats"),
    ("dequantizelinear_e4m3fn_zero_point", "8-bit floats"),
    ("dequantizelinear_e5m2", "8-bit floats"),
    ("dequantizelinear_float4e2m1", "4-bit floats"),
    ("dequantizelinear_int16", "16-bit integers"),
    ("dequantizelinear_int4", "4-bit integers"),
    ("dequantizelinear_uint16", "16-bit integers"),
    ("dequantizelinear_uint4", "4-bit integers"),
    ("qlinearmatmul_2D_int8_float16", "half-float scales"),
    ("qlinearmatmul_2D_uint8_float16", "half-float scales"),
    ("qlinearmatmul_3D_int8_float16", "half-float scales"),
    ("qlinearmatmul_3D_uint8_float16", "half-float scales"),
    ("quantizelinear_blocked_asymmetric", "blocked scales"),
    ("quantizelinear_blocked_symmetric", "blocked scales"),
    ("quantizelinear_e4m3fn", "8-bit floats"),
    ("quantizelinear_e5m2", "8-bit floats"),
    ("quantizelinear_float4e2m1", "4-bit floats"),
    ("quantizelinear_int16", "16-bit integers"),
    ("quantizelinear_int4", "4-bit integers"),
    ("quantizelinear_uint16", "16-bit integers"),
    ("quantizelinear_uint4", "4-bit integers"),
];
/// Elements for which the tests want a value that overflowed: the product is -236, -139 or
/// -136, which QLinearMatMul saturates to -128, and the tests want it less 256.
const OVERFLOWN: [(&str, &[usize]); 2] = [
    ("qlinearmatmul_2D_int8_float32", &[5]),
    ("qlinearmatmul_3D_int8_float32", &[1, 2, 7, 8]),
];

fn judge(case: Result<Case, String>, name: &str) -> Result<(), String> {
    let mut case = case?;
    for (_, places) in OVERFLOWN.iter().filter(|(test, _)| *test == name) {
        for place in *places {
            case.outputs[0].raw_data[*place] = i8::MIN.cast_unsigned();
        }
    }
    let case = case.with_constants();
    for place in 0..case.outputs.len() {
        let one = case.clone().with_output(place);
        attempt::guarded(move || run(&one)).map_err(|e| format!("output {place}: {e}"))?;
    }
    Ok(())
}

fn run(case: &Case) -> Result<(), String> {
    let compiled = compile(&case.bytes(), Numerics::Exact).map_err(|e| e.to_string())?;
    let mut model = TractEngine
        .load(&compiled.model, &LoadOptions::default())
        .map_err(|e| match e.source() {
            Some(source) => format!("{e}: {}", attempt::brief(source)),
            None => e.to_string(),
        })?;
    let input = tensor(&case.inputs[0])?;
    let output = model.run(&input).map_err(|e| e.to_string())?;
    let wanted = tensor(&case.outputs[0])?;
    if output.dtype() != wanted.dtype() || output.shape() != wanted.shape() {
        return Err(format!("gave {output:?}, not {wanted:?}"));
    }
    let wide = |t: &Tensor| t.to_f32().into_iter().map(f64::from).collect::<Vec<f64>>();
    judge::close(&wide(&output), &wide(&wanted), output.dtype() == DType::F32)
}

/// The tensor of a file, as engines take it.
fn tensor(proto: &TensorProto) -> Result<Tensor, String> {
    let dtype = match DataType::try_from(proto.data_type) {
        Ok(DataType::Float) => DType::F32,
        Ok(DataType::Int8) => DType::I8,
        Ok(DataType::Uint8) => DType::U8,
        Ok(DataType::Int32) => DType::I32,
        Ok(DataType::Int64) => DType::I64,
        other => return Err(format!("no engine takes {other:?}")),
    };
    let tensor = attempt::tensor(proto)?;
    Tensor::from_bytes(dtype, tensor.shape().to_vec(), tensor.as_bytes().to_vec())
        .map_err(|e| e.to_string())
}

#[test]
fn quantisation_is_compiled_right() {
    let Some(folder) = case::folder() else { return };
    attempt::hush();
    let mut unexpected = Vec::new();
    let (mut passed, mut not_taken) = (0, 0);
    let names = case::names(&folder);
    let names = names.iter().filter(|n| WORDS.iter().any(|w| n.contains(w)));
    for name in names {
        let result = judge(Case::read(&folder, name), name);
        let listed = NOT_TAKEN.iter().find(|(test, _)| test == name);
        match (&result, listed) {
            (Ok(()), None) => {
                passed += 1;
                println!("passes: {name}");
            }
            (Err(why), Some((_, needs))) => {
                not_taken += 1;
                println!("not taken: {name} needs {needs}: {why}");
            }
            (Ok(()), Some(_)) => unexpected.push(format!("{name} is on the list and passes")),
            (Err(why), None) => unexpected.push(format!("{name} fails: {why}")),
        }
    }
    println!("{passed} tests of quantisation pass, {not_taken} need what is not taken");
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    assert_eq!(not_taken, NOT_TAKEN.len());
    assert!(passed > 0);
}
