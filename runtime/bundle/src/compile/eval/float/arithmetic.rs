//! Arithmetic of two or more values of one type, broadcast to their common shape.
//!
//! Floats are computed in their own type, where each operation is rounded once. Integers wrap
//! as the engines' do; dividing them by zero is refused.

use std::borrow::Cow;

use super::super::{Call, Outcome};
use super::cast::converted;
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval::layout::argument::{array, floats};
use crate::compile::eval::layout::select::{broadcast, common_shape};

/// Two arrays of one type and shape, element by element.
fn both(op: &str, a: &Array, b: &Array, fmod: bool) -> Result<Data, String> {
    macro_rules! each {
        ($a:expr, $b:expr, |$x:ident, $y:ident| $do:expr) => {
            $a.iter().zip($b).map(|(&$x, &$y)| $do).collect()
        };
    }
    macro_rules! float {
        ($a:expr, $b:expr) => {
            match op {
                "Add" | "Sum" | "Mean" => each!($a, $b, |x, y| x + y),
                "Sub" => each!($a, $b, |x, y| x - y),
                "Mul" => each!($a, $b, |x, y| x * y),
                "Div" => each!($a, $b, |x, y| x / y),
                "Mod" if fmod => each!($a, $b, |x, y| x % y),
                // What is no number stays none.
                "Max" => each!($a, $b, |x, y| if x > y || x.is_nan() { x } else { y }),
                "Min" => each!($a, $b, |x, y| if x < y || x.is_nan() { x } else { y }),
                _ => return Err(format!("it does not take {}", a.element())),
            }
        };
    }
    macro_rules! whole {
        ($a:expr, $b:expr) => {
            match op {
                "Add" | "Sum" => each!($a, $b, |x, y| x.wrapping_add(y)),
                "Sub" => each!($a, $b, |x, y| x.wrapping_sub(y)),
                "Mul" => each!($a, $b, |x, y| x.wrapping_mul(y)),
                "Max" => each!($a, $b, |x, y| x.max(y)),
                "Min" => each!($a, $b, |x, y| x.min(y)),
                "Div" | "Mod" if $b.contains(&0) => return Err("it divides by zero".to_owned()),
                "Div" => each!($a, $b, |x, y| x.wrapping_div(y)),
                "Mod" if fmod => each!($a, $b, |x, y| x.wrapping_rem(y)),
                // The sign is that of the divisor.
                "Mod" => each!($a, $b, |x, y| x
                    .wrapping_rem(y)
                    .wrapping_add(y)
                    .wrapping_rem(y)),
                _ => return Err(format!("it does not take {}", a.element())),
            }
        };
    }
    Ok(match (a.data(), b.data()) {
        (Data::F32(a), Data::F32(b)) => Data::F32(float!(a, b)),
        (Data::F64(a), Data::F64(b)) => Data::F64(float!(a, b)),
        (Data::I8(a), Data::I8(b)) => Data::I8(whole!(a, b)),
        (Data::U8(a), Data::U8(b)) => Data::U8(whole!(a, b)),
        (Data::I16(a), Data::I16(b)) => Data::I16(whole!(a, b)),
        (Data::U16(a), Data::U16(b)) => Data::U16(whole!(a, b)),
        (Data::I32(a), Data::I32(b)) => Data::I32(whole!(a, b)),
        (Data::U32(a), Data::U32(b)) => Data::U32(whole!(a, b)),
        (Data::I64(a), Data::I64(b)) => Data::I64(whole!(a, b)),
        (Data::U64(a), Data::U64(b)) => Data::U64(whole!(a, b)),
        _ => return Err(format!("{} and {} do not mix", a.element(), b.element())),
    })
}

/// The second operand where operator sets before 7 say at which axis of the first it stands.
fn placed<'a>(call: &Call<'_>, a: &Array, b: &'a Array) -> Result<Cow<'a, Array>, String> {
    let axis = call.node.int("axis").filter(|_| call.opset < 7);
    let Some(axis) = axis else {
        return Ok(Cow::Borrowed(b));
    };
    let axis = crate::compile::eval::layout::argument::axis(axis, a.rank())?;
    let behind = (a.rank() - axis).saturating_sub(b.rank());
    let mut shape = b.shape().to_vec();
    shape.resize(b.rank() + behind, 1);
    let placed = b.clone().reshaped(shape);
    placed
        .map(Cow::Owned)
        .ok_or_else(|| "its axis does not fit".to_owned())
}

pub(super) fn pair(call: &Call<'_>) -> Outcome {
    let a = call.input(0)?;
    let b = placed(call, a, call.input(1)?)?;
    let shape = common_shape(&[a.shape(), b.shape()])?;
    let (a, b) = (broadcast(a, &shape)?, broadcast(&b, &shape)?);
    let data = both(&call.node.op, &a, &b, call.int_or("fmod", 0) != 0)?;
    array(shape, data).map(|a| vec![a])
}

pub(super) fn several(call: &Call<'_>) -> Outcome {
    let all: Option<Vec<&Array>> = call.inputs.iter().copied().collect();
    let all = all.filter(|a| !a.is_empty()).ok_or("an input is missing")?;
    let shapes: Vec<&[usize]> = all.iter().map(|a| a.shape()).collect();
    let shape = common_shape(&shapes)?;
    let mut result = broadcast(all[0], &shape)?.into_owned();
    for next in &all[1..] {
        let next = broadcast(next, &shape)?;
        result = array(shape.clone(), both(&call.node.op, &result, &next, false)?)?;
    }
    if call.node.op == "Mean" {
        let mean = floats(&result)?.iter().map(|x| x / all.len() as f32);
        result = array(shape, Data::F32(mean.collect()))?;
    }
    Ok(vec![result])
}

/// The result has the type of the base, whatever that of the exponent is.
pub(super) fn power(call: &Call<'_>) -> Outcome {
    let base = call.input(0)?;
    let exponent = placed(call, base, call.input(1)?)?;
    let shape = common_shape(&[base.shape(), exponent.shape()])?;
    let x = broadcast(base, &shape)?.to_f64();
    let y = broadcast(&exponent, &shape)?.to_f64();
    let (Some(x), Some(y)) = (x, y) else {
        return Err(format!("it does not take {}", base.element()));
    };
    let powers = x.iter().zip(y).map(|(x, y)| x.powf(y)).collect();
    let result = array(shape, Data::F64(powers))?;
    converted(&result, base.element()).map(|a| vec![a])
}

/// Slopes are stretched to the input, never the other way.
pub(super) fn prelu(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let slope = call.input(1)?;
    // Before operator set 7 a row of slopes stood for the channels.
    let slope = match (slope.shape(), input.shape()) {
        (&[n], [_, channels, rest @ ..])
            if call.opset < 7 && n == *channels && !rest.is_empty() =>
        {
            let shape = [vec![n], vec![1; rest.len()]].concat();
            slope
                .clone()
                .reshaped(shape)
                .ok_or("its slopes do not fit")?
        }
        _ => slope.clone(),
    };
    let slope = broadcast(&slope, input.shape())?;
    let all = floats(input)?.iter().zip(floats(&slope)?);
    let bent = all
        .map(|(&x, &s)| if x < 0.0 { s * x } else { x })
        .collect();
    array(input.shape().to_vec(), Data::F32(bent)).map(|a| vec![a])
}

/// Bounds are attributes before operator set 11 and inputs, each of which may be missing,
/// since then.
pub(super) fn clip(call: &Call<'_>) -> Outcome {
    let mut result = call.input(0)?.clone();
    for (place, name, op) in [(1, "min", "Max"), (2, "max", "Min")] {
        let told = call.node.float(name).map(Array::scalar);
        let Some(bound) = call.optional(place).cloned().or(told) else {
            continue;
        };
        if bound.len() != 1 {
            return Err(format!("the bound \"{name}\" is not one number"));
        }
        let bound = bound.reshaped(Vec::new()).ok_or("a bound is one number")?;
        let bound = match bound.element() == ElementType::F32 {
            true => converted(&bound, result.element())?,
            false => bound,
        };
        let shape = result.shape().to_vec();
        let bound = broadcast(&bound, &shape)?;
        result = array(shape, both(op, &result, &bound, false)?)?;
    }
    Ok(vec![result])
}
