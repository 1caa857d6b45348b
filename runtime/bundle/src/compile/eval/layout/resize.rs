//! `Resize` and `Upsample` to the nearest element. Interpolation is not here.

use super::super::{Call, Outcome};
use super::argument::{axes, floats, strides, volume};
use super::form::told;
use super::select::{grid, select};
use crate::compile::array::Array;

/// How many times an axis grows, and the length it gets.
struct Axis {
    scale: f64,
    length: usize,
}

fn nearest(call: &Call<'_>) -> Result<(), String> {
    match call.node.text("mode") {
        None | Some("nearest") => Ok(()),
        Some(mode) => Err(format!("the reference does not know the mode \"{mode}\"")),
    }
}

fn scaled(length: usize, scale: f32) -> Result<Axis, String> {
    let scale = f64::from(scale);
    if !(scale.is_finite() && scale > 0.0) {
        return Err(format!("nothing is scaled by {scale}"));
    }
    let length = (length as f64 * scale).floor() as usize;
    Ok(Axis { scale, length })
}

/// The element of an axis of `from` elements that is nearest to element `to` of the result.
fn source(call: &Call<'_>, axis: &Axis, from: usize, to: usize) -> Result<usize, String> {
    let (place, scale) = (to as f64, axis.scale);
    let last = from.saturating_sub(1) as f64;
    let at = match call.node.text("coordinate_transformation_mode") {
        // Before the attribute came, with operator set 11, it was always so.
        Some("asymmetric") => place / scale,
        None if call.opset < 11 => place / scale,
        Some("pytorch_half_pixel") if axis.length <= 1 => 0.0,
        Some("align_corners") if axis.length <= 1 => 0.0,
        Some("align_corners") => place * last / (axis.length - 1) as f64,
        None | Some("half_pixel" | "pytorch_half_pixel") => (place + 0.5) / scale - 0.5,
        Some(mode) => return Err(format!("the reference does not know \"{mode}\"")),
    };
    let rounded = match call.node.text("nearest_mode") {
        Some("floor") => at.floor(),
        None if call.opset < 11 => at.floor(),
        None | Some("round_prefer_floor") => (at - 0.5).ceil(),
        Some("round_prefer_ceil") => (at + 0.5).floor(),
        Some("ceil") => at.ceil(),
        Some(mode) => return Err(format!("the reference does not know \"{mode}\"")),
    };
    Ok(rounded.clamp(0.0, last) as usize)
}

fn sampled(call: &Call<'_>, input: &Array, sizes: &[Axis]) -> Outcome {
    let shape: Vec<usize> = sizes.iter().map(|a| a.length).collect();
    volume(&shape)?;
    if input.is_empty() {
        return Err("nothing is near in an empty value".to_owned());
    }
    let mut lists = Vec::with_capacity(shape.len());
    let own = input.shape().iter().zip(strides(input.shape()));
    for ((&from, stride), axis) in own.zip(sizes) {
        let list = (0..axis.length).map(|to| Ok(source(call, axis, from, to)? * stride));
        lists.push(list.collect::<Result<Vec<_>, String>>()?);
    }
    select(input, shape, &grid(&lists)).map(|a| vec![a])
}

fn by_scales(input: &Array, named: &[usize], scales: &[f32]) -> Result<Vec<Axis>, String> {
    if scales.len() != named.len() {
        return Err(format!("{scales:?} does not scale {} axes", named.len()));
    }
    let mut sizes = kept(input);
    for (&axis, &scale) in named.iter().zip(scales) {
        sizes[axis] = scaled(input.shape()[axis], scale)?;
    }
    Ok(sizes)
}

fn kept(input: &Array) -> Vec<Axis> {
    let same = |&length: &usize| Axis { scale: 1.0, length };
    input.shape().iter().map(same).collect()
}

/// By scales, or to sizes.
pub(super) fn resize(call: &Call<'_>) -> Outcome {
    nearest(call)?;
    let input = call.input(0)?;
    let named = match call.node.ints("axes") {
        Some(named) => axes(named, input.rank())?,
        None => (0..input.rank()).collect(),
    };
    let place = if call.opset < 11 { 1 } else { 2 };
    if let Some(scales) = call.optional(place).filter(|s| !s.is_empty()) {
        let sizes = by_scales(input, &named, floats(scales)?)?;
        return sampled(call, input, &sizes);
    }
    let policy = call.node.text("keep_aspect_ratio_policy");
    if policy.is_some_and(|p| p != "stretch") {
        return Err("the reference does not keep aspect ratios".to_owned());
    }
    let wanted = told(call.input(3)?)?;
    if wanted.len() != named.len() {
        return Err(format!("{wanted:?} does not size {} axes", named.len()));
    }
    let mut sizes = kept(input);
    for (&axis, length) in named.iter().zip(wanted) {
        let scale = length as f64 / input.shape()[axis].max(1) as f64;
        sizes[axis] = Axis { scale, length };
    }
    sampled(call, input, &sizes)
}

/// What `Resize` was before operator set 10.
pub(super) fn upsample(call: &Call<'_>) -> Outcome {
    nearest(call)?;
    let input = call.input(0)?;
    let named: Vec<usize> = (0..input.rank()).collect();
    let scales = match (call.optional(1), call.node.attributes.get("scales")) {
        (Some(scales), _) => floats(scales)?.to_vec(),
        (None, Some(crate::compile::graph::Attribute::Floats(scales))) => scales.clone(),
        _ => return Err("it has no scales".to_owned()),
    };
    sampled(call, input, &by_scales(input, &named, &scales)?)
}
