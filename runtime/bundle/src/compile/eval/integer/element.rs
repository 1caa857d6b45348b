//! Quantised operators that work element by element.
//!
//! Each element is made real, computed in `f32` and quantised, as onnxruntime does it.

use super::parameter::{Parameters, Single, Target, integers};
use super::{Call, Outcome};
use crate::compile::array::Data;
use crate::compile::eval::layout::argument::{axis, volume};

/// `QLinearAdd`. As onnxruntime does it, zero points go into the sum before it is rounded,
/// which decides to which side a half goes.
pub(super) fn add(call: &Call<'_>) -> Outcome {
    pairwise(call, |a_at, b_at, target| {
        let (a_part, b_part) = (a_at.scale / target.scale, b_at.scale / target.scale);
        let zeros = a_part * a_at.zero as f32 + b_part * b_at.zero as f32;
        let fixed = target.zero as f32 - zeros;
        move |a, b| {
            let sum = (a as f32).mul_add(a_part, fixed);
            target.stepped((b as f32).mul_add(b_part, sum))
        }
    })
}

/// `QLinearMul`, rounded as a sum is.
pub(super) fn mul(call: &Call<'_>) -> Outcome {
    pairwise(call, |a_at, b_at, target| {
        let zero = target.zero as f32;
        move |a, b| target.stepped(a_at.real(a) * b_at.real(b) / target.scale + zero)
    })
}

/// `QLinearSigmoid`.
pub(super) fn sigmoid(call: &Call<'_>) -> Outcome {
    each(call, |x| 1.0 / (1.0 + libm::expf(-x)))
}

/// `QLinearLeakyRelu`.
pub(super) fn leaky_relu(call: &Call<'_>) -> Outcome {
    let alpha = call.node.float("alpha").unwrap_or(0.01);
    each(call, |x| if x >= 0.0 { x } else { alpha * x })
}

/// `QLinearConcat`: output parameters first, then three inputs for each part.
pub(super) fn concat(call: &Call<'_>) -> Outcome {
    let count = call.inputs.len().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(3) {
        return Err("each part needs a scale and a zero point".to_owned());
    }
    let first = call.input(2)?;
    let target = Target::of(call, 0, 1, first.element())?;
    let along = call.node.int("axis").ok_or("it has no axis")?;
    let axis = axis(along, first.rank())?;
    let mut shape = first.shape().to_vec();
    shape[axis] = 0;
    let mut parts = Vec::with_capacity(count / 3);
    for place in (2..call.inputs.len()).step_by(3) {
        let part = call.input(place)?;
        let at = Single::of(call, place + 1, place + 2)?;
        let mut others = part.shape().to_vec();
        let Some(length) = others.get_mut(axis) else {
            return Err("the parts differ in their axes".to_owned());
        };
        shape[axis] += std::mem::take(length);
        let mut wanted = shape.clone();
        wanted[axis] = 0;
        if others != wanted {
            return Err("the parts differ in their shapes".to_owned());
        }
        let row: usize = part.shape()[axis..].iter().product();
        let values: Vec<i32> = integers(part)?
            .iter()
            .map(|q| target.quantised(at.real(*q)))
            .collect();
        parts.push((row, values));
    }
    let outer: usize = shape[..axis].iter().product();
    let values: Vec<i32> = (0..outer)
        .flat_map(|n| {
            parts
                .iter()
                .map(move |(row, values)| (n * row, *row, values))
        })
        .flat_map(|(from, row, values)| values[from..from + row].iter().copied())
        .collect();
    target.array(shape, &values)
}

/// `QLinearWhere`.
pub(super) fn choose(call: &Call<'_>) -> Outcome {
    let condition = call.input(0)?;
    let (x, y) = (call.input(1)?, call.input(4)?);
    let (x_at, y_at) = (Single::of(call, 2, 3)?, Single::of(call, 5, 6)?);
    let target = Target::of(call, 7, 8, x.element())?;
    let Data::Bool(holds) = condition.data() else {
        return Err("the condition is not of bool".to_owned());
    };
    let (shape, places) = spread(&[condition.shape(), x.shape(), y.shape()])?;
    let (xs, ys) = (integers(x)?, integers(y)?);
    let values: Vec<i32> = (0..places[0].len())
        .map(|n| match holds[places[0][n]] {
            true => target.quantised(x_at.real(xs[places[1][n]])),
            false => target.quantised(y_at.real(ys[places[2][n]])),
        })
        .collect();
    target.array(shape, &values)
}

fn pairwise<F: Fn(i32, i32) -> i32>(
    call: &Call<'_>,
    rule: impl FnOnce(Single, Single, Target) -> F,
) -> Outcome {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let (a_at, b_at) = (Single::of(call, 1, 2)?, Single::of(call, 4, 5)?);
    let target = Target::of(call, 6, 7, a.element())?;
    let (shape, places) = spread(&[a.shape(), b.shape()])?;
    let (a, b) = (integers(a)?, integers(b)?);
    let made = rule(a_at, b_at, target);
    let values: Vec<i32> = places[0]
        .iter()
        .zip(&places[1])
        .map(|(i, j)| made(a[*i], b[*j]))
        .collect();
    target.array(shape, &values)
}

fn each(call: &Call<'_>, real: impl Fn(f32) -> f32) -> Outcome {
    let x = call.input(0)?;
    let at = Parameters::of(call, 1, 2)?.single()?;
    let target = Target::of(call, 3, 4, x.element())?;
    let values: Vec<i32> = integers(x)?
        .iter()
        .map(|q| target.quantised(real(at.real(*q))))
        .collect();
    target.array(x.shape().to_vec(), &values)
}

/// What shapes give together by ONNX's broadcasting, and for each of them the place that each
/// element of the result reads.
pub(super) fn spread(shapes: &[&[usize]]) -> Result<(Vec<usize>, Vec<Vec<usize>>), String> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut result = vec![1; rank];
    for shape in shapes {
        let lead = rank - shape.len();
        for (whole, own) in result[lead..].iter_mut().zip(*shape) {
            match (*whole, *own) {
                (w, o) if w == o || o == 1 => {}
                (1, o) => *whole = o,
                _ => return Err(format!("shapes {shapes:?} do not go together")),
            }
        }
    }
    let size = volume(&result)?;
    let places = shapes.iter().map(|shape| places(shape, &result, size));
    let places = places.collect();
    Ok((result, places))
}

fn places(shape: &[usize], result: &[usize], size: usize) -> Vec<usize> {
    let lead = result.len() - shape.len();
    let mut places = Vec::with_capacity(size);
    places.push(0);
    // Places of the leading axes, widened by one axis at a time.
    for (axis, &length) in result.iter().enumerate() {
        let own = axis.checked_sub(lead).map_or(1, |at| shape[at]);
        places = places
            .iter()
            .flat_map(|place| (0..length).map(move |n| place * own + if own == 1 { 0 } else { n }))
            .collect();
    }
    places
}
