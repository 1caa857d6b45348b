//! Comparisons, logic, and choosing by a condition.

use super::super::{Call, Outcome};
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::array;
use crate::compile::eval::layout::select::{broadcast, common_shape, join, select};

pub(super) fn compare(call: &Call<'_>) -> Outcome {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let shape = common_shape(&[a.shape(), b.shape()])?;
    let (a, b) = (broadcast(a, &shape)?, broadcast(b, &shape)?);
    macro_rules! by_type {
        ($($kind:ident)*) => {
            match (a.data(), b.data()) {
                $((Data::$kind(a), Data::$kind(b)) => compared(&call.node.op, a, b),)*
                _ => return Err(format!("{} and {} do not compare", a.element(), b.element())),
            }
        };
    }
    let result = by_type!(F32 F64 I8 U8 I16 U16 I32 U32 I64 U64 Bool);
    array(shape, Data::Bool(result)).map(|a| vec![a])
}

fn compared<T: PartialOrd>(op: &str, a: &[T], b: &[T]) -> Vec<bool> {
    let pairs = a.iter().zip(b);
    match op {
        "Equal" => pairs.map(|(a, b)| a == b).collect(),
        "Greater" => pairs.map(|(a, b)| a > b).collect(),
        "Less" => pairs.map(|(a, b)| a < b).collect(),
        "GreaterOrEqual" => pairs.map(|(a, b)| a >= b).collect(),
        _ => pairs.map(|(a, b)| a <= b).collect(),
    }
}

fn truths(array: &Array) -> Result<&[bool], String> {
    match array.data() {
        Data::Bool(v) => Ok(v),
        _ => Err(format!("it takes bool, not {}", array.element())),
    }
}

pub(super) fn logic(call: &Call<'_>) -> Outcome {
    let (a, b) = (call.input(0)?, call.input(1)?);
    let shape = common_shape(&[a.shape(), b.shape()])?;
    let (a, b) = (broadcast(a, &shape)?, broadcast(b, &shape)?);
    let pairs = truths(&a)?.iter().zip(truths(&b)?);
    let result = match call.node.op.as_str() {
        "And" => pairs.map(|(a, b)| a & b).collect(),
        "Or" => pairs.map(|(a, b)| a | b).collect(),
        _ => pairs.map(|(a, b)| a ^ b).collect(),
    };
    array(shape, Data::Bool(result)).map(|a| vec![a])
}

pub(super) fn not(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let result = truths(input)?.iter().map(|x| !x).collect();
    array(input.shape().to_vec(), Data::Bool(result)).map(|a| vec![a])
}

/// `Where`: from the second input where the first is true, from the third elsewhere.
pub(super) fn choose(call: &Call<'_>) -> Outcome {
    let (condition, yes, no) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let shape = common_shape(&[condition.shape(), yes.shape(), no.shape()])?;
    let condition = broadcast(condition, &shape)?;
    let (yes, no) = (broadcast(yes, &shape)?, broadcast(no, &shape)?);
    let other = yes.len();
    let places = truths(&condition)?.iter().enumerate();
    let offsets: Vec<usize> = places
        .map(|(n, &c)| if c { n } else { other + n })
        .collect();
    select(&join(&[&yes, &no])?, shape, &offsets).map(|a| vec![a])
}

/// `IsNaN` and `IsInf`, of which the latter may be asked for one sign only.
pub(super) fn special(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let values = input.to_f64();
    let values = values.ok_or_else(|| format!("it does not take {}", input.element()))?;
    let below = call.int_or("detect_negative", 1) != 0;
    let above = call.int_or("detect_positive", 1) != 0;
    let is = |&x: &f64| match call.node.op.as_str() {
        "IsNaN" => x.is_nan(),
        _ => x.is_infinite() && if x < 0.0 { below } else { above },
    };
    let result = values.iter().map(is).collect();
    array(input.shape().to_vec(), Data::Bool(result)).map(|a| vec![a])
}
