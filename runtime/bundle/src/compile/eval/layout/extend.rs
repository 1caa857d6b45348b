//! Operators that make more elements: copies, margins, and values from nothing.

use super::super::{Call, Outcome};
use super::argument::{array, integers, size, strides, volume};
use super::form::told;
use super::select::{NOWHERE, broadcast, common_shape, grid, join, select};
use crate::compile::array::{Array, Data};
use crate::compile::graph::Attribute;

/// To the shape that input and wish have together.
pub(super) fn expand(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let shape = common_shape(&[input.shape(), &told(call.input(1)?)?])?;
    Ok(vec![broadcast(input, &shape)?.into_owned()])
}

/// Along each axis `repeats` times.
pub(super) fn tile(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let repeats = told(call.input(1)?)?;
    if repeats.len() != input.rank() {
        return Err(format!("{repeats:?} does not repeat {:?}", input.shape()));
    }
    let axes = input.shape().iter().zip(&repeats);
    let shape: Vec<usize> = axes.map(|(&n, &times)| n.saturating_mul(times)).collect();
    volume(&shape)?;
    let lists: Vec<Vec<usize>> = (0..input.rank())
        .map(|axis| {
            let stride = strides(input.shape())[axis];
            let places = 0..shape[axis];
            places.map(|p| p % input.shape()[axis] * stride).collect()
        })
        .collect();
    select(input, shape, &grid(&lists)).map(|a| vec![a])
}

/// Where the element at `place`, which may lie outside, comes from along an axis of `length`.
fn margin(mode: &str, place: i64, length: i64) -> Result<Option<i64>, String> {
    Ok(match mode {
        _ if (0..length).contains(&place) => Some(place),
        "constant" => None,
        _ if length == 0 => return Err("nothing lies at the edge of an empty axis".to_owned()),
        "edge" => Some(place.clamp(0, length - 1)),
        "wrap" => Some(place.rem_euclid(length)),
        // The edge itself is not repeated.
        "reflect" if length == 1 => Some(0),
        "reflect" => {
            let period = 2 * (length - 1);
            let folded = place.rem_euclid(period);
            Some(folded.min(period - folded))
        }
        _ => return Err(format!("there is no mode \"{mode}\"")),
    })
}

/// Negative pads cut away. The mode `reflect` does not repeat the edge, `edge` repeats it.
pub(super) fn pad(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let rank = input.rank();
    let mode = call.node.text("mode").unwrap_or("constant");
    let pads = match call.list(1, "pads")? {
        Some(pads) => pads,
        None => call.node.ints("paddings").ok_or("it has no pads")?.to_vec(),
    };
    let axes = match call.optional(3) {
        Some(named) => super::argument::axes(&integers(named)?, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{pads:?} does not pad {} axes", axes.len()));
    }
    let mut bounds: Vec<(i64, i64)> = input.shape().iter().map(|&n| (0, n as i64)).collect();
    for (n, &axis) in axes.iter().enumerate() {
        let (low, high) = bounds[axis];
        bounds[axis] = (
            low.saturating_sub(pads[n]),
            high.saturating_add(pads[n + axes.len()]),
        );
    }
    let lengths = bounds
        .iter()
        .map(|&(low, high)| size(high.saturating_sub(low)));
    let shape = lengths.collect::<Result<Vec<_>, _>>()?;
    volume(&shape)?;
    let steps = strides(input.shape());
    let mut lists = Vec::with_capacity(rank);
    for (axis, &(low, high)) in bounds.iter().enumerate() {
        let mut list = Vec::with_capacity(shape[axis]);
        for place in low..high {
            let from = margin(mode, place, input.shape()[axis] as i64)?;
            list.push(from.map_or(NOWHERE, |p| (p as usize).saturating_mul(steps[axis])));
        }
        lists.push(list);
    }
    let mut offsets = grid(&lists);
    let value = match call.optional(2) {
        Some(value) => Some(value.clone()),
        None => call.node.float("value").map(Array::scalar),
    };
    let Some(value) = value.filter(|v| !v.is_empty()) else {
        return select(input, shape, &offsets).map(|a| vec![a]);
    };
    // The value lies behind the last element.
    for offset in &mut offsets {
        if *offset == NOWHERE {
            *offset = input.len();
        }
    }
    select(&join(&[input, &value])?, shape, &offsets).map(|a| vec![a])
}

pub(super) fn constant_of_shape(call: &Call<'_>) -> Outcome {
    let shape = told(call.input(0)?)?;
    let elements = volume(&shape)?;
    let value = match call.node.attributes.get("value") {
        Some(Attribute::Tensor(value)) => value.clone(),
        _ => Array::scalar(0.0),
    };
    if value.len() != 1 {
        return Err(format!("a value of {} elements is none", value.len()));
    }
    select(&value, shape, &vec![0; elements]).map(|a| vec![a])
}

/// From start towards limit, which is not reached.
pub(super) fn range(call: &Call<'_>) -> Outcome {
    let part = |place: usize| call.input(place).map(Array::data);
    let count = |steps: f64| -> Result<usize, String> {
        let steps = steps.ceil().max(0.0) as usize;
        volume(&[steps])
    };
    let data = match (part(0)?, part(1)?, part(2)?) {
        (Data::I64(s), Data::I64(l), Data::I64(d)) => {
            let (s, l, d) = single(s, l, d)?;
            if d == 0 {
                return Err("a step of 0 leads nowhere".to_owned());
            }
            let steps = (i128::from(l) - i128::from(s)) as f64 / d as f64;
            let nth = |n: usize| s.wrapping_add(d.wrapping_mul(n as i64));
            Data::I64((0..count(steps)?).map(nth).collect())
        }
        (Data::I32(s), Data::I32(l), Data::I32(d)) => {
            let (s, l, d) = single(s, l, d)?;
            if d == 0 {
                return Err("a step of 0 leads nowhere".to_owned());
            }
            let steps = (f64::from(l) - f64::from(s)) / f64::from(d);
            let nth = |n: usize| s.wrapping_add(d.wrapping_mul(n as i32));
            Data::I32((0..count(steps)?).map(nth).collect())
        }
        (Data::F32(s), Data::F32(l), Data::F32(d)) => {
            let (s, l, d) = single(s, l, d)?;
            let steps = (f64::from(l) - f64::from(s)) / f64::from(d);
            if !steps.is_finite() {
                return Err("its steps have no number".to_owned());
            }
            let nth = |n: usize| (f64::from(s) + n as f64 * f64::from(d)) as f32;
            Data::F32((0..count(steps)?).map(nth).collect())
        }
        _ => return Err("ranges are of f32, i32 or i64, all ends alike".to_owned()),
    };
    array(vec![data.len()], data).map(|a| vec![a])
}

fn single<T: Copy>(start: &[T], limit: &[T], step: &[T]) -> Result<(T, T, T), String> {
    match (start, limit, step) {
        ([start], [limit], [step]) => Ok((*start, *limit, *step)),
        _ => Err("start, limit and step are one number each".to_owned()),
    }
}
