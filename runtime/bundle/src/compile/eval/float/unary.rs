//! Operators of one value, element by element: by a function of real numbers, rounded once.

use super::super::{Call, Outcome};
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::array;

type Function = Box<dyn Fn(f64) -> f64>;

const NAMES: [&str; 38] = [
    "Abs",
    "Neg",
    "Sign",
    "Relu",
    "Ceil",
    "Floor",
    "Round",
    "Sqrt",
    "Reciprocal",
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Asinh",
    "Acosh",
    "Atanh",
    "Shrink",
    "Sinh",
    "Cosh",
    "Tanh",
    "Erf",
    "Sigmoid",
    "Softplus",
    "Softsign",
    "LeakyRelu",
    "ThresholdedRelu",
    "HardSigmoid",
    "HardSwish",
    "Elu",
    "Celu",
    "Selu",
    "Gelu",
    "Swish",
    "Mish",
];

pub(super) fn is_known(op: &str) -> bool {
    NAMES.contains(&op)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * core::f64::consts::FRAC_1_SQRT_2))
}

fn gelu_by_tanh(x: f64) -> f64 {
    let inner = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// Without overflow of the exponential.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() {
        x
    } else {
        x.signum()
    }
}

/// The operator's function with its attributes; defaults are those of ONNX.
fn function(call: &Call<'_>) -> Option<Function> {
    let with = |name: &str, default: f32| f64::from(call.float_or(name, default));
    Some(match call.node.op.as_str() {
        "Abs" => Box::new(f64::abs),
        "Neg" => Box::new(|x| -x),
        "Sign" => Box::new(sign),
        "Relu" => Box::new(relu),
        "Ceil" => Box::new(f64::ceil),
        "Floor" => Box::new(f64::floor),
        "Round" => Box::new(f64::round_ties_even),
        "Sqrt" => Box::new(f64::sqrt),
        "Reciprocal" => Box::new(f64::recip),
        "Exp" => Box::new(f64::exp),
        "Log" => Box::new(f64::ln),
        "Sin" => Box::new(f64::sin),
        "Cos" => Box::new(f64::cos),
        "Tan" => Box::new(f64::tan),
        "Asin" => Box::new(f64::asin),
        "Acos" => Box::new(f64::acos),
        "Atan" => Box::new(f64::atan),
        "Asinh" => Box::new(f64::asinh),
        "Acosh" => Box::new(f64::acosh),
        "Atanh" => Box::new(f64::atanh),
        "Sinh" => Box::new(f64::sinh),
        "Cosh" => Box::new(f64::cosh),
        "Tanh" => Box::new(f64::tanh),
        "Erf" => Box::new(libm::erf),
        "Sigmoid" => Box::new(sigmoid),
        "Softplus" => Box::new(softplus),
        "Softsign" => Box::new(|x| x / (1.0 + x.abs())),
        "Mish" => Box::new(|x| x * softplus(x).tanh()),
        "LeakyRelu" => {
            let alpha = with("alpha", 0.01);
            Box::new(move |x| if x < 0.0 { alpha * x } else { x })
        }
        "ThresholdedRelu" => {
            let alpha = with("alpha", 1.0);
            Box::new(move |x| if x > alpha { x } else { 0.0 })
        }
        "Shrink" => {
            let (bound, bias) = (with("lambd", 0.5), with("bias", 0.0));
            Box::new(move |x| match x {
                _ if x < -bound => x + bias,
                _ if x > bound => x - bias,
                _ => 0.0,
            })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (with("alpha", 0.2), with("beta", 0.5));
            Box::new(move |x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "HardSwish" => Box::new(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "Elu" => {
            let alpha = with("alpha", 1.0);
            Box::new(move |x| if x < 0.0 { alpha * x.exp_m1() } else { x })
        }
        "Celu" => {
            let alpha = with("alpha", 1.0);
            Box::new(move |x| x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0))
        }
        "Selu" => {
            let (alpha, gamma) = (with("alpha", 1.673_263_2), with("gamma", 1.050_701));
            Box::new(move |x| gamma * if x > 0.0 { x } else { alpha * x.exp_m1() })
        }
        "Gelu" => match call.node.text("approximate") {
            Some("tanh") => Box::new(gelu_by_tanh),
            _ => Box::new(gelu),
        },
        "Swish" => {
            let alpha = with("alpha", 1.0);
            Box::new(move |x| x * sigmoid(alpha * x))
        }
        "QuickGelu" => {
            let alpha = with("alpha", 1.702);
            Box::new(move |x| x * sigmoid(alpha * x))
        }
        _ => return None,
    })
}

pub(super) fn unary(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let function = function(call).ok_or("the reference does not know it")?;
    let data = match input.data() {
        Data::F32(v) => Data::F32(v.iter().map(|&x| function(f64::from(x)) as f32).collect()),
        Data::F64(v) => Data::F64(v.iter().map(|&x| function(x)).collect()),
        _ => whole(input, call.node.op.as_str())?,
    };
    array(input.shape().to_vec(), data).map(|a| vec![a])
}

/// The few that integers have as well.
fn whole(input: &Array, op: &str) -> Result<Data, String> {
    macro_rules! each {
        ($v:expr, $kind:ident) => {
            Data::$kind(match op {
                "Neg" => $v.iter().map(|x| x.wrapping_neg()).collect(),
                "Abs" => $v.iter().map(|x| x.wrapping_abs()).collect(),
                "Sign" => $v.iter().map(|x| x.signum()).collect(),
                "Relu" => $v.iter().map(|&x| x.max(0)).collect(),
                _ => return Err(format!("it takes floats, not {}", input.element())),
            })
        };
    }
    Ok(match input.data() {
        Data::I8(v) => each!(v, I8),
        Data::I16(v) => each!(v, I16),
        Data::I32(v) => each!(v, I32),
        Data::I64(v) => each!(v, I64),
        other if op == "Abs" && !matches!(other, Data::Other { .. } | Data::Bool(_)) => {
            other.clone()
        }
        _ => return Err(format!("it does not take {}", input.element())),
    })
}
