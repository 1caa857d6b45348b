//! Operators that change or tell the shape and leave the elements in their order.

use super::super::{Call, Outcome};
use super::argument::{axes, axis, integers, size as length};
use crate::compile::array::{Array, Data};

/// `Dropout` is this outside of training, with a mask of nothing dropped.
pub(super) fn identity(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let training = call.optional(2).map(Array::data);
    if matches!(training, Some(Data::Bool(v)) if v.contains(&true)) {
        return Err("what training drops is left to chance".to_owned());
    }
    let mut results = vec![input.clone()];
    if call.node.op == "Dropout" && call.node.outputs.len() > 1 {
        let kept = Data::Bool(vec![true; input.len()]);
        results.push(super::argument::array(input.shape().to_vec(), kept)?);
    }
    Ok(results)
}

fn shaped(input: &Array, shape: Vec<usize>) -> Outcome {
    let refused = || format!("{:?} cannot take the shape {shape:?}", input.shape());
    let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    if elements != Some(input.len()) {
        return Err(refused());
    }
    let result = input.clone().reshaped(shape.clone());
    Ok(vec![result.ok_or_else(refused)?])
}

/// -1 stands for what is left, 0 for the axis of the input, unless `allowzero`.
pub(super) fn reshape(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let wanted = call.list(1, "shape")?.ok_or("it has no shape")?;
    let keep_zero = call.int_or("allowzero", 0) != 0;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (place, &value) in wanted.iter().enumerate() {
        shape.push(match value {
            -1 if open.is_some() => return Err("two axes are left open".to_owned()),
            -1 => {
                open = Some(place);
                1
            }
            0 if !keep_zero => *input
                .shape()
                .get(place)
                .ok_or_else(|| format!("the input has no axis {place} to keep"))?,
            _ => length(value)?,
        });
    }
    if let Some(place) = open {
        let rest = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let rest = rest.ok_or("its shape is too large")?;
        shape[place] = input.len().checked_div(rest).unwrap_or(0);
    }
    shaped(input, shape)
}

/// All axes before `axis` become one, and all from it.
pub(super) fn flatten(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let wanted = call.int_or("axis", 1);
    // The place behind the last axis is one as well.
    let split = match usize::try_from(wanted) {
        Ok(split) if split == input.rank() => split,
        _ => axis(wanted, input.rank())?,
    };
    let (outer, inner) = input.shape().split_at(split);
    let whole = |axes: &[usize]| axes.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
    let shape = [whole(outer), whole(inner)].into_iter().collect();
    let shape: Option<Vec<usize>> = shape;
    shaped(input, shape.ok_or("its shape is too large")?)
}

pub(super) fn squeeze(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let gone = match call.list(1, "axes")? {
        Some(named) => axes(&named, input.rank())?,
        None => (0..input.rank())
            .filter(|&n| input.shape()[n] == 1)
            .collect(),
    };
    if let Some(long) = gone.iter().find(|&&n| input.shape()[n] != 1) {
        return Err(format!("the axis {long} of {:?} is not 1", input.shape()));
    }
    let all = input.shape().iter().enumerate();
    let kept = all
        .filter(|(n, _)| !gone.contains(n))
        .map(|(_, &length)| length);
    shaped(input, kept.collect())
}

pub(super) fn unsqueeze(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let named = call.list(1, "axes")?.ok_or("it has no axes")?;
    let rank = input.rank() + named.len();
    let new = axes(&named, rank)?;
    let mut old = input.shape().iter().copied();
    let mut shape = Vec::with_capacity(rank);
    for place in 0..rank {
        shape.push(match new.contains(&place) {
            true => 1,
            false => old.next().unwrap_or(1),
        });
    }
    shaped(input, shape)
}

/// `start` and `end` are cut to the axes there are.
pub(super) fn shape(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let rank = input.rank() as i64;
    let place = |value: i64| {
        let counted = if value < 0 {
            value.saturating_add(rank)
        } else {
            value
        };
        counted.clamp(0, rank) as usize
    };
    let start = place(call.int_or("start", 0));
    let end = place(call.int_or("end", rank)).max(start);
    let lengths = input.shape()[start..end].iter().map(|&n| n as i64);
    Ok(vec![Array::indices(lengths.collect())])
}

pub(super) fn size(call: &Call<'_>) -> Outcome {
    let elements = call.input(0)?.len() as i64;
    super::argument::array(Vec::new(), Data::I64(vec![elements])).map(|a| vec![a])
}

/// The shape that a small input of sizes says.
pub(super) fn told(sizes: &Array) -> Result<Vec<usize>, String> {
    integers(sizes)?.into_iter().map(length).collect()
}
