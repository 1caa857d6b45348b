//! Operators that look along an axis in its order: the largest few, and running sums.

use super::super::{Call, Outcome};
use super::cast::converted;
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{array, axis, integers, size, strides, volume};
use crate::compile::eval::layout::select::select;

fn numbers(input: &Array) -> Result<Vec<f64>, String> {
    let values = input.to_f64();
    values.ok_or_else(|| format!("it does not take {}", input.element()))
}

/// The largest or smallest along an axis and their places; of equals the first ones.
pub(super) fn top(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let axis = axis(call.int_or("axis", -1), input.rank())?;
    let wanted = match (call.optional(1), call.node.int("k")) {
        (Some(wanted), _) => integers(wanted)?,
        (None, Some(k)) => vec![k],
        (None, None) => return Err("it does not say how many".to_owned()),
    };
    let &[wanted] = wanted.as_slice() else {
        return Err("how many is one number".to_owned());
    };
    let (wanted, length) = (size(wanted)?, input.shape()[axis]);
    if wanted > length {
        return Err(format!("{length} have no largest {wanted}"));
    }
    let largest = call.int_or("largest", 1) != 0;
    let values = numbers(input)?;
    let inner = strides(input.shape())[axis];
    let mut shape = input.shape().to_vec();
    shape[axis] = wanted;
    let elements = volume(&shape)?;
    let (mut offsets, mut places) = (vec![0; elements], vec![0i64; elements]);
    let outer = elements / (wanted * inner).max(1);
    for block in 0..outer {
        for column in 0..inner {
            let offset = |place: usize| (block * length + place) * inner + column;
            let mut order: Vec<usize> = (0..length).collect();
            order.sort_by(|&a, &b| {
                let by = values[offset(a)].total_cmp(&values[offset(b)]);
                if largest { by.reverse() } else { by }
            });
            for (n, &place) in order[..wanted].iter().enumerate() {
                let to = (block * wanted + n) * inner + column;
                offsets[to] = offset(place);
                places[to] = place as i64;
            }
        }
    }
    let found = select(input, shape.clone(), &offsets)?;
    Ok(vec![found, array(shape, Data::I64(places))?])
}

/// Sums of all up to each, or, with `exclusive`, before it; from the end with `reverse`.
pub(super) fn running_sum(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let &[along] = integers(call.input(1)?)?.as_slice() else {
        return Err("its axis is one number".to_owned());
    };
    let axis = axis(along, input.rank())?;
    let (length, inner) = (input.shape()[axis], strides(input.shape())[axis]);
    let exclusive = call.int_or("exclusive", 0) != 0;
    let reverse = call.int_or("reverse", 0) != 0;
    let mut values = numbers(input)?;
    for block in values.chunks_exact_mut((length * inner).max(1)) {
        for column in 0..inner {
            let mut sum = 0.0;
            for n in 0..length {
                let place = if reverse { length - 1 - n } else { n };
                let value = &mut block[place * inner + column];
                let before = sum;
                sum += *value;
                *value = if exclusive { before } else { sum };
            }
        }
    }
    let sums = array(input.shape().to_vec(), Data::F64(values))?;
    converted(&sums, input.element()).map(|a| vec![a])
}
