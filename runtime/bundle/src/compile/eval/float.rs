//! Operators that compute with floats, and the plain arithmetic of every type.
//!
//! Results are `f32` where ONNX says so; sums of products are made in `f64` and rounded once,
//! so that the order of summing does not show. Sizes are checked before anything is made.

mod arithmetic;
mod cast;
mod compare;
pub(super) mod convolve;
mod deconvolve;
mod group;
mod normalise;
mod order;
mod pool;
pub(super) mod product;
mod reduce;
mod resize;
#[cfg(test)]
mod tests;
mod unary;
pub(super) mod window;

use super::Kernel;

pub(super) fn kernel(domain: &str, op: &str) -> Option<Kernel> {
    match domain {
        "" | "ai.onnx" => standard(op),
        "com.microsoft" if matches!(op, "Gelu" | "QuickGelu") => Some(unary::unary),
        _ => None,
    }
}

fn standard(op: &str) -> Option<Kernel> {
    Some(match op {
        "Add" | "Sub" | "Mul" | "Div" | "Mod" => arithmetic::pair,
        "Max" | "Min" | "Sum" | "Mean" => arithmetic::several,
        "Pow" => arithmetic::power,
        "PRelu" => arithmetic::prelu,
        "Clip" => arithmetic::clip,
        "Cast" => cast::cast,
        "CastLike" => cast::cast_like,
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => compare::compare,
        "And" | "Or" | "Xor" => compare::logic,
        "Not" => compare::not,
        "Where" => compare::choose,
        "Conv" => convolve::conv,
        "ConvTranspose" => deconvolve::conv_transpose,
        "MatMul" => product::matmul,
        "Gemm" => product::gemm,
        "AveragePool" => pool::average,
        "MaxPool" => pool::maximum,
        "GlobalAveragePool" => pool::global_average,
        "GlobalMaxPool" => pool::global_maximum,
        "Softmax" | "LogSoftmax" => normalise::softmax,
        "BatchNormalization" => normalise::batch,
        "InstanceNormalization" => normalise::instance,
        "LayerNormalization" => normalise::layer,
        "GroupNormalization" => group::group,
        "LpNormalization" => group::length,
        "RMSNormalization" => group::mean_square,
        "MeanVarianceNormalization" => group::mean_variance,
        "TopK" => order::top,
        "CumSum" => order::running_sum,
        "IsNaN" | "IsInf" => compare::special,
        "LRN" => normalise::neighbours,
        "ArgMax" | "ArgMin" => reduce::place,
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceL1"
        | "ReduceL2" | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => reduce::reduce,
        "Resize" => resize::resize,
        "Upsample" => resize::upsample,
        _ if unary::is_known(op) => unary::unary,
        _ => return None,
    })
}
