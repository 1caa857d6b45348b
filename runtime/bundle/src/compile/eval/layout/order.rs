//! Operators that put all elements into another order.

use super::super::{Call, Outcome};
use super::argument::{axes, size, strides, volume};
use super::select::{grid, run, select};
use crate::compile::array::Array;

/// The axes in the order `places`.
fn permuted(input: &Array, places: &[usize]) -> Result<Array, String> {
    let shape: Vec<usize> = places.iter().map(|&p| input.shape()[p]).collect();
    volume(&shape)?;
    let strides = strides(input.shape());
    let lists: Vec<Vec<usize>> = places
        .iter()
        .map(|&p| run(input.shape()[p], strides[p]))
        .collect();
    select(input, shape, &grid(&lists))
}

/// The axes as `perm` names them, or from last to first.
pub(super) fn transpose(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let places = match call.node.ints("perm") {
        Some(perm) => axes(perm, input.rank())?,
        None => (0..input.rank()).rev().collect(),
    };
    if places.len() != input.rank() {
        return Err(format!("{places:?} does not order {:?}", input.shape()));
    }
    permuted(input, &places).map(|a| vec![a])
}

fn image(input: &Array) -> Result<[usize; 4], String> {
    <[usize; 4]>::try_from(input.shape())
        .map_err(|_| format!("it takes 4 axes, not {:?}", input.shape()))
}

fn block(call: &Call<'_>) -> Result<usize, String> {
    let block = size(call.int_or("blocksize", 0))?;
    match block {
        1..=65_536 => Ok(block),
        _ => Err(format!("a block of {block} is none")),
    }
}

/// A reordering in six axes: split so, put into this order, join to that shape.
fn blocks(input: &Array, split: [usize; 6], order: [usize; 6], shape: [usize; 4]) -> Outcome {
    let split = input.clone().reshaped(split.to_vec());
    let split = split.ok_or("its blocks do not fit")?;
    let moved = permuted(&split, &order)?.reshaped(shape.to_vec());
    Ok(vec![moved.ok_or("its blocks do not fit")?])
}

/// In mode CRD the channels count outside of the block, otherwise inside.
pub(super) fn depth_to_space(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let ([n, c, h, w], b) = (image(input)?, block(call)?);
    if !c.is_multiple_of(b * b) {
        return Err(format!("{c} channels are no blocks of {b} x {b}"));
    }
    let depth = c / (b * b);
    let scaled = |length: usize| length.checked_mul(b).ok_or("its shape is too large");
    let shape = [n, depth, scaled(h)?, scaled(w)?];
    match call.node.text("mode") {
        Some("CRD") => blocks(input, [n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3], shape),
        _ => blocks(input, [n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2], shape),
    }
}

/// The way back, by the same modes.
pub(super) fn space_to_depth(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let ([n, c, h, w], b) = (image(input)?, block(call)?);
    if !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(format!("{h} x {w} are no blocks of {b} x {b}"));
    }
    let depth = c.checked_mul(b * b).ok_or("its shape is too large")?;
    let split = [n, c, h / b, b, w / b, b];
    let shape = [n, depth, h / b, w / b];
    match call.node.text("mode") {
        Some("CRD") => blocks(input, split, [0, 1, 3, 5, 2, 4], shape),
        _ => blocks(input, split, [0, 3, 5, 1, 2, 4], shape),
    }
}
