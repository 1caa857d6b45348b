//! Reductions along axes, and where the largest or smallest lies.

use super::super::{Call, Outcome};
use super::cast::converted;
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval::layout::argument::{array, axes, axis, strides, volume};
use crate::compile::eval::layout::select::grid;

/// The reduced axes, and the shape with a one in place of each.
fn reduced(call: &Call<'_>, input: &Array) -> Result<(Vec<usize>, Vec<usize>), String> {
    let named = call.list(1, "axes")?.filter(|a| !a.is_empty());
    let gone = match named {
        Some(named) => axes(&named, input.rank())?,
        None if call.int_or("noop_with_empty_axes", 0) != 0 => Vec::new(),
        None => (0..input.rank()).collect(),
    };
    let mut shape = input.shape().to_vec();
    for &axis in &gone {
        shape[axis] = 1;
    }
    Ok((gone, shape))
}

fn without(shape: &[usize], gone: &[usize]) -> Vec<usize> {
    let all = shape.iter().enumerate();
    all.filter(|(n, _)| !gone.contains(n))
        .map(|(_, &length)| length)
        .collect()
}

/// Computed in `f64` and given in the type of the input.
pub(super) fn reduce(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let (gone, shape) = reduced(call, input)?;
    let results = volume(&shape)?;
    volume(input.shape())?;
    let values = input.to_f64();
    let values = values.ok_or_else(|| format!("it does not take {}", input.element()))?;
    // For each element the result it goes into.
    let steps = strides(&shape);
    let lists: Vec<Vec<usize>> = (0..input.rank())
        .map(|n| {
            let step = if shape[n] == 1 { 0 } else { steps[n] };
            (0..input.shape()[n]).map(|place| place * step).collect()
        })
        .collect();
    let target = grid(&lists);
    let count = values.len() as f64 / results.max(1) as f64;
    let gathered = |start: f64, fold: &dyn Fn(f64, f64) -> f64| {
        let mut sums = vec![start; results];
        for (&to, &value) in target.iter().zip(&values) {
            sums[to] = fold(sums[to], value);
        }
        sums
    };
    let then = |values: Vec<f64>, last: &dyn Fn(f64) -> f64| -> Vec<f64> {
        values.into_iter().map(last).collect()
    };
    let op = call.node.op.as_str();
    // What nothing reduces to: for truth values those are false and true.
    let (least, most) = match input.element() {
        ElementType::BOOL => (0.0, 1.0),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    let sums = match op {
        "ReduceSum" => gathered(0.0, &|a, x| a + x),
        "ReduceMean" => then(gathered(0.0, &|a, x| a + x), &|a| a / count),
        "ReduceProd" => gathered(1.0, &|a, x| a * x),
        "ReduceMax" => gathered(least, &|a, x| {
            if x > a || x.is_nan() { x } else { a }
        }),
        "ReduceMin" => gathered(most, &|a, x| {
            if x < a || x.is_nan() { x } else { a }
        }),
        "ReduceL1" => gathered(0.0, &|a, x| a + x.abs()),
        "ReduceL2" => then(gathered(0.0, &|a, x| a + x * x), &f64::sqrt),
        "ReduceSumSquare" => gathered(0.0, &|a, x| a + x * x),
        "ReduceLogSum" => then(gathered(0.0, &|a, x| a + x), &f64::ln),
        _ => {
            // Exponentials are taken of what is left of the largest, so that none is too large.
            let most = gathered(f64::NEG_INFINITY, &f64::max);
            let mut sums = vec![0.0; results];
            for (&to, &value) in target.iter().zip(&values) {
                sums[to] += if value == most[to] {
                    1.0
                } else {
                    (value - most[to]).exp()
                };
            }
            most.iter()
                .zip(sums)
                .map(|(most, sum)| most + sum.ln())
                .collect()
        }
    };
    let kept = match call.int_or("keepdims", 1) {
        0 => without(&shape, &gone),
        _ => shape,
    };
    converted(&array(kept, Data::F64(sums))?, input.element()).map(|a| vec![a])
}

/// `ArgMax` and `ArgMin`: the first place, or the last with `select_last_index`.
pub(super) fn place(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let axis = axis(call.int_or("axis", 0), input.rank())?;
    volume(input.shape())?;
    let length = input.shape()[axis];
    if length == 0 {
        return Err("nothing has no largest or smallest".to_owned());
    }
    let values = input.to_f64();
    let values = values.ok_or_else(|| format!("it does not take {}", input.element()))?;
    let inner: usize = input.shape()[axis + 1..].iter().product();
    let smallest = call.node.op == "ArgMin";
    let last = call.int_or("select_last_index", 0) != 0;
    let mut places = Vec::with_capacity(values.len() / length);
    for block in values.chunks_exact((length * inner).max(1)) {
        for column in 0..inner {
            let mut best = 0;
            for n in 1..length {
                let (new, old) = (block[n * inner + column], block[best * inner + column]);
                let better = if smallest { new < old } else { new > old };
                if better || (last && new == old) {
                    best = n;
                }
            }
            places.push(best as i64);
        }
    }
    let mut shape = input.shape().to_vec();
    shape[axis] = 1;
    if call.int_or("keepdims", 1) == 0 {
        shape.remove(axis);
    }
    array(shape, Data::I64(places)).map(|a| vec![a])
}
