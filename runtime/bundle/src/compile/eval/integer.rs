//! Definitions of the quantised operators: ONNX's own and onnxruntime's in `com.microsoft`.
//!
//! Products are summed in integers. A result is requantised as onnxruntime does it: times the
//! quotient of the scales in `f32`, rounded half to even, zero point added, saturated. What
//! onnxruntime computes from tables (sigmoid, softmax) is computed by its formula here, which
//! may differ by one step. Parameters come from the file, so any that make no sense are an
//! error, never a panic.

mod element;
mod linear;
mod parameter;
#[cfg(test)]
mod peer;
mod pool;
mod quantise;

use super::{Call, Kernel, Outcome};

/// Domain of onnxruntime's own operators.
const CONTRIB: &str = "com.microsoft";

pub(super) fn kernel(domain: &str, op: &str) -> Option<Kernel> {
    let standard: Option<Kernel> = match op {
        "QuantizeLinear" => Some(quantise::quantise),
        "DequantizeLinear" => Some(quantise::dequantise),
        "DynamicQuantizeLinear" => Some(quantise::dynamic),
        "ConvInteger" => Some(linear::conv_integer),
        "MatMulInteger" => Some(linear::matmul_integer),
        "QLinearConv" => Some(linear::conv),
        "QLinearMatMul" => Some(linear::matmul),
        _ => None,
    };
    match domain {
        "" | "ai.onnx" => standard,
        CONTRIB => standard.or(match op {
            "QGemm" => Some(linear::gemm),
            "MatMulIntegerToFloat" => Some(linear::matmul_to_float),
            "DynamicQuantizeMatMul" => Some(linear::dynamic_matmul),
            "QLinearAdd" => Some(element::add),
            "QLinearMul" => Some(element::mul),
            "QLinearSigmoid" => Some(element::sigmoid),
            "QLinearLeakyRelu" => Some(element::leaky_relu),
            "QLinearConcat" => Some(element::concat),
            "QLinearWhere" => Some(element::choose),
            "QLinearSoftmax" => Some(pool::softmax),
            "QLinearAveragePool" => Some(pool::average),
            "QLinearGlobalAveragePool" => Some(pool::global_average),
            "QLinearReduceMean" => Some(pool::reduce_mean),
            _ => None,
        }),
        _ => None,
    }
}
