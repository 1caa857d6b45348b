//! Taking elements of any type by their offsets.
//!
//! The one place that knows how elements of types that nothing computes with are packed.

use std::borrow::Cow;

use super::argument::{array, strides, volume};
use crate::compile::array::{Array, Data};

/// The offset of an element that comes from nowhere.
pub(in crate::compile::eval) const NOWHERE: usize = usize::MAX;

/// Offsets of a whole result in its order, of those that each axis adds. What one axis takes
/// from nowhere, the result does.
pub(in crate::compile::eval) fn grid(axes: &[Vec<usize>]) -> Vec<usize> {
    let mut offsets = vec![0];
    for axis in axes {
        let mut next = Vec::with_capacity(offsets.len() * axis.len());
        for &base in &offsets {
            for &step in axis {
                next.push(if base == NOWHERE || step == NOWHERE {
                    NOWHERE
                } else {
                    base.saturating_add(step)
                });
            }
        }
        offsets = next;
    }
    offsets
}

/// Runs an expression over elements of any computable type and keeps their type.
macro_rules! same_type {
    ($data:expr, $v:ident => $do:expr, $other:pat => $else:expr) => {
        match $data {
            Data::F32($v) => Data::F32($do),
            Data::F64($v) => Data::F64($do),
            Data::I8($v) => Data::I8($do),
            Data::U8($v) => Data::U8($do),
            Data::I16($v) => Data::I16($do),
            Data::U16($v) => Data::U16($do),
            Data::I32($v) => Data::I32($do),
            Data::U32($v) => Data::U32($do),
            Data::I64($v) => Data::I64($do),
            Data::U64($v) => Data::U64($do),
            Data::Bool($v) => Data::Bool($do),
            $other => $else,
        }
    };
}

fn pick<T: Copy>(values: &[T], offsets: &[usize], fill: T) -> Result<Vec<T>, String> {
    let mut picked = Vec::with_capacity(offsets.len());
    for &offset in offsets {
        picked.push(match offset {
            NOWHERE => fill,
            _ if offset < values.len() => values[offset],
            _ => return Err(format!("there is no element {offset}")),
        });
    }
    Ok(picked)
}

/// Bytes of each element of a type that is only carried along, where they are whole.
fn width(code: i32) -> Result<usize, String> {
    match code {
        10 | 16 => Ok(2),
        17..=20 => Ok(1),
        _ => Err("elements of this type cannot be moved here".to_owned()),
    }
}

/// The elements of `from` at these offsets; zero for those from nowhere.
pub(in crate::compile::eval) fn select(
    from: &Array,
    shape: Vec<usize>,
    offsets: &[usize],
) -> Result<Array, String> {
    let data = same_type!(from.data(), v => pick(v, offsets, Default::default())?,
    Data::Other { code, bytes } => {
        let width = width(*code)?;
        let mut picked = Vec::with_capacity(offsets.len() * width);
        for &offset in offsets {
            match offset {
                NOWHERE => picked.resize(picked.len() + width, 0),
                _ => picked.extend_from_slice(
                    offset
                        .checked_mul(width)
                        .and_then(|at| bytes.get(at..at + width))
                        .ok_or_else(|| format!("there is no element {offset}"))?,
                ),
            }
        }
        Data::Other {
            code: *code,
            bytes: picked,
        }
    });
    array(shape, data)
}

/// The elements of all arrays behind one another, as one row.
pub(in crate::compile::eval) fn join(parts: &[&Array]) -> Result<Array, String> {
    let first = parts.first().ok_or("there is nothing to join")?;
    let elements = parts.iter().map(|p| p.len()).fold(0, usize::saturating_add);
    volume(&[elements])?;
    let mut joined = first.data().clone();
    for part in &parts[1..] {
        macro_rules! extend {
            ($($kind:ident)*) => {
                match (&mut joined, part.data()) {
                    $((Data::$kind(all), Data::$kind(more)) => all.extend_from_slice(more),)*
                    (Data::Other { code, bytes }, Data::Other { code: its, bytes: more })
                        if code == its =>
                    {
                        width(*code)?;
                        bytes.extend_from_slice(more);
                    }
                    _ => {
                        return Err(format!(
                            "{} and {} cannot be joined",
                            first.element(),
                            part.element()
                        ));
                    }
                }
            };
        }
        extend!(F32 F64 I8 U8 I16 U16 I32 U32 I64 U64 Bool);
    }
    array(vec![elements], joined)
}

/// The shape that values of these shapes have together, by numpy's rule.
pub(in crate::compile::eval) fn common_shape(shapes: &[&[usize]]) -> Result<Vec<usize>, String> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut common = vec![1; rank];
    for shape in shapes {
        for (whole, &own) in common[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*whole, own) {
                (a, b) if a == b => {}
                (1, b) => *whole = b,
                (_, 1) => {}
                _ => return Err(format!("the shapes {shapes:?} do not go together")),
            }
        }
    }
    volume(&common)?;
    Ok(common)
}

/// The array repeated along axes of length one, and along new ones in front, to `shape`.
pub(in crate::compile::eval) fn broadcast<'a>(
    from: &'a Array,
    shape: &[usize],
) -> Result<Cow<'a, Array>, String> {
    if from.shape() == shape {
        return Ok(Cow::Borrowed(from));
    }
    volume(shape)?;
    let new = shape.len().checked_sub(from.rank());
    let new = new.ok_or_else(|| format!("{:?} has more axes than {shape:?}", from.shape()))?;
    let mut lists = Vec::with_capacity(shape.len());
    for &length in &shape[..new] {
        lists.push(vec![0; length]);
    }
    let own = from.shape().iter().zip(strides(from.shape()));
    for ((&length, stride), &wanted) in own.zip(&shape[new..]) {
        lists.push(match length {
            _ if length == wanted => run(length, stride),
            1 => vec![0; wanted],
            _ => return Err(format!("{:?} does not go into {shape:?}", from.shape())),
        });
    }
    select(from, shape.to_vec(), &grid(&lists)).map(Cow::Owned)
}

/// The offsets of a whole axis.
pub(in crate::compile::eval) fn run(length: usize, stride: usize) -> Vec<usize> {
    (0..length).map(|n| n.saturating_mul(stride)).collect()
}
