//! Operators that take parts of values, and the one that puts parts together.

use super::super::{Call, Outcome};
use super::argument::{axis, integers, size, strides, volume};
use super::select::{grid, join, run, select};
use crate::compile::array::Array;

/// The elements whose place along `axis` is listed, in the order of the list.
fn along(input: &Array, axis: usize, places: &[usize], shape: Vec<usize>) -> Result<Array, String> {
    volume(&shape)?;
    let strides = strides(input.shape());
    let lists: Vec<Vec<usize>> = (0..input.rank())
        .map(|n| match n == axis {
            true => places
                .iter()
                .map(|&p| p.saturating_mul(strides[n]))
                .collect(),
            false => run(input.shape()[n], strides[n]),
        })
        .collect();
    select(input, shape, &grid(&lists))
}

pub(super) fn concat(call: &Call<'_>) -> Outcome {
    let parts: Option<Vec<&Array>> = call.inputs.iter().copied().collect();
    let parts = parts.ok_or("an input is missing")?;
    let first = parts.first().ok_or("it has no input")?;
    let axis = axis(call.int_or("axis", 1), first.rank())?;
    let mut whole = 0usize;
    for part in &parts {
        let alike = part.rank() == first.rank()
            && (0..part.rank()).all(|n| n == axis || part.shape()[n] == first.shape()[n]);
        if !alike {
            return Err(format!(
                "{:?} does not go behind {:?} along axis {axis}",
                part.shape(),
                first.shape()
            ));
        }
        whole = whole.saturating_add(part.shape()[axis]);
    }
    let mut shape = first.shape().to_vec();
    shape[axis] = whole;
    volume(&shape)?;
    let joined = join(&parts)?;
    let outer: usize = first.shape()[..axis].iter().product();
    let mut offsets = Vec::with_capacity(joined.len());
    for block in 0..outer {
        let mut start = 0;
        for part in &parts {
            let length = part.len() / outer.max(1);
            offsets.extend(start + block * length..start + (block + 1) * length);
            start += part.len();
        }
    }
    select(&joined, shape, &offsets).map(|a| vec![a])
}

/// Into parts of listed lengths; without a list into equal ones, of which the last may be
/// shorter.
pub(super) fn split(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let axis = axis(call.int_or("axis", 0), input.rank())?;
    let whole = input.shape()[axis];
    let lengths = match call.list(1, "split")? {
        Some(list) => list.into_iter().map(size).collect::<Result<Vec<_>, _>>()?,
        None => {
            let outputs = call.node.outputs.len() as i64;
            let parts = size(call.int_or("num_outputs", outputs))?;
            if parts == 0 || parts > whole.max(1) {
                return Err(format!("{whole} cannot be split into {parts}"));
            }
            let each = whole.div_ceil(parts);
            let length = |n: usize| each.min(whole.saturating_sub(n * each));
            (0..parts).map(length).collect()
        }
    };
    let sum = lengths
        .iter()
        .try_fold(0usize, |all, &n| all.checked_add(n));
    if sum != Some(whole) {
        return Err(format!("parts of {lengths:?} are not {whole}"));
    }
    let mut start = 0;
    let mut results = Vec::with_capacity(lengths.len());
    for length in lengths {
        let places: Vec<usize> = (start..start + length).collect();
        let mut shape = input.shape().to_vec();
        shape[axis] = length;
        results.push(along(input, axis, &places, shape)?);
        start += length;
    }
    Ok(results)
}

/// The places that a slice of an axis of `length` takes. Start and end are cut to the axis, a
/// negative step runs towards the front.
fn range(length: usize, start: i64, end: i64, step: i64) -> Result<Vec<usize>, String> {
    if step == 0 {
        return Err("a step of 0 leads nowhere".to_owned());
    }
    let length = length as i64;
    let counted = |value: i64| match value < 0 {
        true => value.saturating_add(length),
        false => value,
    };
    let (low, high) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let mut place = counted(start).clamp(low.min(high), high);
    if step < 0 && place < 0 {
        place = if length == 0 { -1 } else { place.max(0) };
    }
    let end = counted(end).clamp(low.min(high), high);
    let mut places = Vec::new();
    while if step > 0 { place < end } else { place > end } {
        places.extend(usize::try_from(place));
        place = place.saturating_add(step);
    }
    Ok(places)
}

pub(super) fn slice(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let rank = input.rank();
    volume(input.shape())?;
    let starts = call.list(1, "starts")?.ok_or("it has no starts")?;
    let ends = call.list(2, "ends")?.ok_or("it has no ends")?;
    let named = call.list(3, "axes")?;
    let named = named.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = call.optional(4).map(integers).transpose()?;
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), named.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".to_owned());
    }
    let named = super::argument::axes(&named, rank)?;
    let strides = strides(input.shape());
    let mut places: Vec<Vec<usize>> = input.shape().iter().map(|&n| run(n, 1)).collect();
    for (n, &axis) in named.iter().enumerate() {
        places[axis] = range(input.shape()[axis], starts[n], ends[n], steps[n])?;
    }
    let shape = places.iter().map(Vec::len).collect();
    for (places, stride) in places.iter_mut().zip(strides) {
        for place in places {
            *place = place.saturating_mul(stride);
        }
    }
    select(input, shape, &grid(&places)).map(|a| vec![a])
}

/// The axes of the indices stand in place of the axis they count.
pub(super) fn gather(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let axis = axis(call.int_or("axis", 0), input.rank())?;
    let indices = call.input(1)?;
    let length = input.shape()[axis];
    let place = |value: i64| {
        let counted = if value < 0 {
            value.saturating_add(length as i64)
        } else {
            value
        };
        let place = usize::try_from(counted).ok().filter(|&p| p < length);
        place.ok_or_else(|| format!("there is no place {value} among {length}"))
    };
    let places = integers(indices)?.into_iter().map(place);
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let mut shape = input.shape().to_vec();
    shape.splice(axis..=axis, indices.shape().iter().copied());
    along(input, axis, &places, shape).map(|a| vec![a])
}
