//! Shapes of operators that move, select or reduce elements.

use super::{Inputs, Shape, axis_of, count};
use crate::compile::graph::Node;

/// The shapes of a layout operator's outputs.
pub(super) fn shapes(inputs: &Inputs<'_>) -> Option<Vec<Shape>> {
    let one = match inputs.node.op.as_str() {
        "Reshape" => reshape(inputs)?,
        "Flatten" => flatten(inputs)?,
        "Squeeze" => squeeze(inputs)?,
        "Unsqueeze" => unsqueeze(inputs)?,
        "Transpose" => transpose(inputs)?,
        "Concat" => concat(inputs)?,
        "Split" => return split(inputs),
        "TopK" => {
            let first = first(inputs)?;
            return Some(vec![first.clone(), first]);
        }
        "Slice" => slice(inputs)?,
        "Gather" => gather(inputs)?,
        "GatherElements" => inputs.shape(1)?,
        "Pad" => pad(inputs)?,
        "Expand" => super::broadcast(inputs.shape(0)?, &sizes(inputs.indices(1)?)?)?,
        "Tile" => tile(inputs)?,
        "Resize" => resize(inputs, 2, Some(3))?,
        "Upsample" => resize(inputs, 1, None)?,
        "Shape" => shape(inputs)?,
        "Size" => Vec::new(),
        "ConstantOfShape" => sizes(inputs.indices(0)?)?,
        "Range" => range(inputs)?,
        "ArgMax" | "ArgMin" => {
            let axes = [inputs.int("axis", 0)];
            reduced(inputs.shape(0)?, Some(&axes), inputs.int("keepdims", 1))?
        }
        "DepthToSpace" => blocks(inputs, true)?,
        "SpaceToDepth" => blocks(inputs, false)?,
        op if op.starts_with("Reduce") => reduce(inputs)?,
        _ => return None,
    };
    Some(vec![one])
}

fn sizes(values: &[i64]) -> Option<Shape> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

fn reshape(inputs: &Inputs<'_>) -> Option<Shape> {
    let from = inputs.shape(0)?;
    let wanted = inputs.indices(1)?;
    let keeps = inputs.int("allowzero", 0) == 0;
    let mut open = None;
    let mut to = Vec::with_capacity(wanted.len());
    for (axis, &size) in wanted.iter().enumerate() {
        to.push(match size {
            -1 if open.is_some() => return None,
            -1 => {
                open = Some(axis);
                1
            }
            0 if keeps => *from.get(axis)?,
            size => usize::try_from(size).ok()?,
        });
    }
    let (all, others) = (count(&from)?, count(&to)?);
    if let Some(axis) = open {
        to[axis] = all.checked_div(others)?;
    }
    (count(&to)? == all).then_some(to)
}

fn flatten(inputs: &Inputs<'_>) -> Option<Shape> {
    let from = inputs.shape(0)?;
    let axis = inputs.int("axis", 1);
    let axis = match usize::try_from(axis) {
        Ok(axis) if axis == from.len() => axis,
        _ => axis_of(axis, from.len())?,
    };
    Some(vec![count(&from[..axis])?, count(&from[axis..])?])
}

/// The axes of Squeeze, Unsqueeze and reductions, which moved from an attribute to an input.
fn axes<'a>(inputs: &'a Inputs<'_>) -> Option<Option<&'a [i64]>> {
    match inputs.has(1) {
        true => inputs.indices(1).map(Some),
        false => Some(inputs.node.ints("axes")),
    }
}

fn squeeze(inputs: &Inputs<'_>) -> Option<Shape> {
    let from = inputs.shape(0)?;
    let Some(axes) = axes(inputs)? else {
        return Some(from.into_iter().filter(|&d| d != 1).collect());
    };
    let mut goes = vec![false; from.len()];
    for &axis in axes {
        goes[axis_of(axis, from.len())?] = true;
    }
    let kept = from.into_iter().zip(goes).filter(|(_, goes)| !goes);
    Some(kept.map(|(d, _)| d).collect())
}

fn unsqueeze(inputs: &Inputs<'_>) -> Option<Shape> {
    let from = inputs.shape(0)?;
    let axes = axes(inputs)??;
    let rank = from.len().checked_add(axes.len())?;
    let mut is_new = vec![false; rank];
    for &axis in axes {
        is_new[axis_of(axis, rank)?] = true;
    }
    let mut from = from.into_iter();
    let shape = is_new.into_iter().map(|new| match new {
        true => Some(1),
        false => from.next(),
    });
    shape.collect()
}

fn transpose(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut from = inputs.shape(0)?;
    let Some(perm) = inputs.node.ints("perm") else {
        from.reverse();
        return Some(from);
    };
    let at = |&axis: &i64| Some(from[axis_of(axis, from.len())?]);
    perm.iter().map(at).collect()
}

fn concat(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let axis = axis_of(inputs.node.int("axis")?, shape.len())?;
    for place in 1..inputs.node.inputs.len() {
        let next = inputs.shape(place)?;
        let size = *next.get(axis)?;
        shape[axis] = shape[axis].checked_add(size)?;
    }
    Some(shape)
}

fn split(inputs: &Inputs<'_>) -> Option<Vec<Shape>> {
    let from = inputs.shape(0)?;
    let axis = axis_of(inputs.int("axis", 0), from.len())?;
    let parts = match usize::try_from(inputs.int("num_outputs", 0)) {
        Ok(parts @ 1..) if parts != inputs.node.outputs.len() => return None,
        _ => inputs.node.outputs.len(),
    };
    let lengths = match inputs.has(1) {
        true => sizes(inputs.indices(1)?)?,
        false => {
            let length = from[axis].div_ceil(parts.max(1));
            let mut left = from[axis];
            let mut next = || {
                let part = length.min(left);
                left -= part;
                part
            };
            (0..parts).map(|_| next()).collect()
        }
    };
    let part = |length: usize| {
        let mut shape = from.clone();
        shape[axis] = length;
        shape
    };
    Some(lengths.into_iter().map(part).collect())
}

/// The shape of both outputs of TopK.
fn first(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let axis = axis_of(inputs.int("axis", -1), shape.len())?;
    let &[k] = inputs.indices(1)? else {
        return None;
    };
    shape[axis] = usize::try_from(k).ok()?;
    Some(shape)
}

fn slice(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let (starts, ends) = (inputs.indices(1)?, inputs.indices(2)?);
    let counted: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = match inputs.has(3) {
        true => inputs.indices(3)?,
        false => &counted,
    };
    let ones = vec![1; starts.len()];
    let steps = match inputs.has(4) {
        true => inputs.indices(4)?,
        false => &ones,
    };
    for (place, &start) in starts.iter().enumerate() {
        let axis = axis_of(*axes.get(place)?, shape.len())?;
        let size = i64::try_from(shape[axis]).ok()?;
        let step = *steps.get(place)?;
        let end = *ends.get(place)?;
        let from_start = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let (start, end) = (from_start(start), from_start(end));
        let length = match step {
            0 => return None,
            1.. => {
                let (start, end) = (start.clamp(0, size), end.clamp(0, size));
                (end - start).max(0).unsigned_abs()
            }
            _ => {
                let (start, end) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
                (start - end).max(0).unsigned_abs()
            }
        };
        shape[axis] = usize::try_from(length.div_ceil(step.unsigned_abs())).ok()?;
    }
    Some(shape)
}

fn gather(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let axis = axis_of(inputs.int("axis", 0), shape.len())?;
    shape.splice(axis..=axis, inputs.shape(1)?);
    Some(shape)
}

fn pad(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let pads = inputs.indices(1)?;
    let counted: Vec<i64> = (0..shape.len() as i64).collect();
    let axes = match inputs.has(3) {
        true => inputs.indices(3)?,
        false => &counted,
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    for (place, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, shape.len())?;
        let size = i64::try_from(shape[axis]).ok()?;
        let size = size.checked_add(pads[place])?;
        let size = size.checked_add(pads[axes.len() + place])?;
        shape[axis] = usize::try_from(size).ok()?;
    }
    Some(shape)
}

fn tile(inputs: &Inputs<'_>) -> Option<Shape> {
    let shape = inputs.shape(0)?;
    let times = sizes(inputs.indices(1)?)?;
    let axes = shape.iter().zip(&times);
    let tiled = axes.map(|(&d, &n)| d.checked_mul(n));
    (times.len() == shape.len()).then(|| tiled.collect())?
}

fn resize(inputs: &Inputs<'_>, scales: usize, stated: Option<usize>) -> Option<Shape> {
    let shape = inputs.shape(0)?;
    if inputs.node.ints("axes").is_some() {
        return None;
    }
    if let Some(place) = stated.filter(|place| inputs.has(*place)) {
        let stated = sizes(inputs.indices(place)?)?;
        let plain = inputs
            .node
            .text("keep_aspect_ratio_policy")
            .unwrap_or("stretch")
            == "stretch";
        return (plain && stated.len() == shape.len()).then_some(stated);
    }
    let scales = inputs
        .graph
        .constant(inputs.node.input(scales)?)?
        .as_f32()?;
    let axes = shape.iter().zip(scales);
    let scaled = axes.map(|(&d, &s)| {
        let size = (d as f64 * f64::from(s)).floor();
        // Beyond this no tensor is, and the conversion saturates.
        (0.0..1e15).contains(&size).then_some(size as usize)
    });
    (scales.len() == shape.len()).then(|| scaled.collect())?
}

fn shape(inputs: &Inputs<'_>) -> Option<Shape> {
    let value = inputs.graph.value(inputs.node.input(0)?);
    let (start, end) = bounds(inputs.node, value.shape.as_ref()?.len());
    Some(vec![end.saturating_sub(start)])
}

/// The axes that a Shape of a value of `rank` axes tells of.
pub(in crate::compile::pass) fn bounds(node: &Node, rank: usize) -> (usize, usize) {
    let rank_signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let place = |name: &str, otherwise: i64| {
        let at = node.int(name).unwrap_or(otherwise);
        let at = match at {
            0.. => at,
            _ => at.saturating_add(rank_signed),
        };
        usize::try_from(at.clamp(0, rank_signed)).unwrap_or(0)
    };
    (place("start", 0), place("end", i64::MAX))
}

fn range(inputs: &Inputs<'_>) -> Option<Shape> {
    let single = |place: usize| match inputs.indices(place)? {
        [value] => Some(*value),
        _ => None,
    };
    let (start, end, step) = (single(0)?, single(1)?, single(2)?);
    let way = end.checked_sub(start)?;
    if step == 0 {
        return None;
    }
    if way.signum() != step.signum() {
        return Some(vec![0]);
    }
    let steps = way.unsigned_abs().div_ceil(step.unsigned_abs());
    Some(vec![usize::try_from(steps).ok()?])
}

fn reduce(inputs: &Inputs<'_>) -> Option<Shape> {
    let from = inputs.shape(0)?;
    let axes = axes(inputs)?.filter(|axes| !axes.is_empty());
    if axes.is_none() && inputs.int("noop_with_empty_axes", 0) != 0 {
        return Some(from);
    }
    reduced(from, axes, inputs.int("keepdims", 1))
}

fn reduced(from: Shape, axes: Option<&[i64]>, keeps: i64) -> Option<Shape> {
    let mut goes = vec![axes.is_none(); from.len()];
    for &axis in axes.unwrap_or_default() {
        goes[axis_of(axis, from.len())?] = true;
    }
    let all = from.into_iter().zip(goes);
    let kept = all.filter_map(|(size, goes)| match (goes, keeps) {
        (false, _) => Some(size),
        (true, 0) => None,
        (true, _) => Some(1),
    });
    Some(kept.collect())
}

/// Depth to space, or back.
fn blocks(inputs: &Inputs<'_>, to_space: bool) -> Option<Shape> {
    let [batch, depth, height, width] = inputs.shape(0)?.try_into().ok()?;
    let block = usize::try_from(inputs.node.int("blocksize")?).ok()?;
    let area = block.checked_mul(block).filter(|a| *a > 0)?;
    Some(match to_space {
        true => vec![
            batch,
            depth / area,
            height.checked_mul(block)?,
            width.checked_mul(block)?,
        ],
        false => vec![
            batch,
            depth.checked_mul(area)?,
            height / block,
            width / block,
        ],
    })
}
