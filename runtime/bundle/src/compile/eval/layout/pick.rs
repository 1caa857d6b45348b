//! Operators that take single elements by indices of their own, or by a condition on their
//! place.

use super::super::{Call, Outcome};
use super::argument::{axis, integers, size, strides, volume};
use super::select::{NOWHERE, grid, run, select};
use crate::compile::array::Array;

/// A place along an axis, counted from the end where it is negative.
fn place(value: i64, length: usize) -> Result<usize, String> {
    axis(value, length).map_err(|_| format!("there is no place {value} among {length}"))
}

/// Each element by an index along one axis and its own place along the others.
pub(super) fn gather_elements(call: &Call<'_>) -> Outcome {
    let (input, indices) = (call.input(0)?, call.input(1)?);
    let axis = axis(call.int_or("axis", 0), input.rank())?;
    let fits = indices.rank() == input.rank()
        && (0..input.rank()).all(|n| n == axis || indices.shape()[n] <= input.shape()[n]);
    if !fits {
        return Err(format!(
            "indices {:?} do not fit {:?}",
            indices.shape(),
            input.shape()
        ));
    }
    let steps = strides(input.shape());
    let lists: Vec<Vec<usize>> = (0..input.rank())
        .map(|n| run(indices.shape()[n], if n == axis { 0 } else { steps[n] }))
        .collect();
    let mut offsets = grid(&lists);
    for (offset, index) in offsets.iter_mut().zip(integers(indices)?) {
        *offset += place(index, input.shape()[axis])? * steps[axis];
    }
    select(input, indices.shape().to_vec(), &offsets).map(|a| vec![a])
}

/// Each row of indices is the place of a part, along the first axes behind the batch.
pub(super) fn gather_nd(call: &Call<'_>) -> Outcome {
    let (input, indices) = (call.input(0)?, call.input(1)?);
    let batch = size(call.int_or("batch_dims", 0))?;
    let refused = || {
        format!(
            "indices {:?} do not fit {:?}",
            indices.shape(),
            input.shape()
        )
    };
    let (&depth, outer) = indices.shape().split_last().ok_or_else(refused)?;
    let end = batch.checked_add(depth).ok_or_else(refused)?;
    if end > input.rank() || outer.get(..batch) != input.shape().get(..batch) {
        return Err(refused());
    }
    let shape = [outer, &input.shape()[end..]].concat();
    let rows = volume(outer)?;
    let elements = volume(&shape)?;
    let steps = strides(input.shape());
    let part: usize = input.shape()[end..].iter().product();
    let rows_of_batch = rows / input.shape()[..batch].iter().product::<usize>().max(1);
    let whole_of_batch: usize = input.shape()[batch..].iter().product();
    let values = integers(indices)?;
    let mut offsets = Vec::with_capacity(elements);
    for row in 0..rows {
        let mut first = row / rows_of_batch.max(1) * whole_of_batch;
        for n in 0..depth {
            let axis = batch + n;
            first += place(values[row * depth + n], input.shape()[axis])? * steps[axis];
        }
        offsets.extend(first..first + part);
    }
    select(input, shape, &offsets).map(|a| vec![a])
}

/// The upper or lower triangle of each matrix; the rest is zero.
pub(super) fn triangle(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let &[.., rows, columns] = input.shape() else {
        return Err(format!("{:?} is no matrix", input.shape()));
    };
    let upper = call.int_or("upper", 1) != 0;
    let shift = match call.optional(1).map(integers).transpose()?.as_deref() {
        None => 0,
        Some([shift]) => *shift,
        Some(_) => return Err("its shift is one number".to_owned()),
    };
    let mut offsets: Vec<usize> = (0..input.len()).collect();
    for (n, offset) in offsets.iter_mut().enumerate() {
        let (row, column) = (n / columns % rows, n % columns);
        let right = (column as i64 - row as i64).saturating_sub(shift);
        if (upper && right < 0) || (!upper && right > 0) {
            *offset = NOWHERE;
        }
    }
    select(input, input.shape().to_vec(), &offsets).map(|a| vec![a])
}

/// `OneHot`: a new axis, along which the value for "on" stands at the index.
pub(super) fn one_hot(call: &Call<'_>) -> Outcome {
    let (indices, depth, values) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let whole = |array: &Array| -> Result<Vec<i64>, String> {
        let numbers = array.to_f64().ok_or("indices are numbers")?;
        Ok(numbers.into_iter().map(|x| x as i64).collect())
    };
    let &[depth] = whole(depth)?.as_slice() else {
        return Err("its depth is one number".to_owned());
    };
    let depth = size(depth)?;
    if values.len() != 2 {
        return Err("its values are two, for off and on".to_owned());
    }
    let new = axis(call.int_or("axis", -1), indices.rank() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(new, depth);
    let mut offsets = vec![0; volume(&shape)?];
    let inner: usize = indices.shape()[new..].iter().product();
    for (n, index) in whole(indices)?.into_iter().enumerate() {
        // What lies outside is nowhere on.
        if let Ok(on) = place(index, depth) {
            offsets[(n / inner * depth + on) * inner + n % inner] = 1;
        }
    }
    select(values, shape, &offsets).map(|a| vec![a])
}
