//! What operators are told by attributes and small inputs, checked.
//!
//! Nothing here trusts a number from a file: axes are counted, sizes multiplied with a limit.

use super::super::Call;
use crate::compile::array::{Array, Data};

/// No result has more elements, so that a hostile graph cannot take all memory.
pub(in crate::compile::eval) const MOST_ELEMENTS: usize = 1 << 26;

/// No operator multiplies more often, so that a hostile graph comes to an end.
const MOST_PRODUCTS: usize = 1 << 32;

/// Number of elements of a result of this shape, where it may be made at all. An axis of no
/// length hides no excess of the others.
pub(in crate::compile::eval) fn volume(shape: &[usize]) -> Result<usize, String> {
    let whole = shape
        .iter()
        .filter(|&&n| n > 0)
        .try_fold(1usize, |all, &n| all.checked_mul(n))
        .filter(|&n| n <= MOST_ELEMENTS)
        .ok_or_else(|| {
            format!("a value of shape {shape:?} has more than {MOST_ELEMENTS} elements")
        })?;
    Ok(if shape.contains(&0) { 0 } else { whole })
}

/// Refuses what would multiply too often.
pub(in crate::compile::eval) fn effort(factors: &[usize]) -> Result<(), String> {
    let products = factors
        .iter()
        .try_fold(1usize, |all, &n| all.checked_mul(n.max(1)));
    match products {
        Some(n) if n <= MOST_PRODUCTS => Ok(()),
        _ => Err(format!("it takes more than {MOST_PRODUCTS} products")),
    }
}

/// How far apart neighbours along each axis lie.
pub(in crate::compile::eval) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// The axis that `value` means, counted from the end where it is negative.
pub(in crate::compile::eval) fn axis(value: i64, rank: usize) -> Result<usize, String> {
    let from_end = value.checked_add(rank as i64).filter(|_| value < 0);
    usize::try_from(from_end.unwrap_or(value))
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| format!("there is no axis {value} among {rank}"))
}

/// Every axis of a list once, in its order.
pub(in crate::compile::eval) fn axes(values: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut axes = Vec::with_capacity(values.len().min(rank));
    for &value in values {
        let axis = axis(value, rank)?;
        if axes.contains(&axis) {
            return Err(format!("the axis {value} is named twice"));
        }
        axes.push(axis);
    }
    Ok(axes)
}

/// A length or a count.
pub(in crate::compile::eval) fn size(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("{value} is no size"))
}

/// The elements of an array of indices.
pub(in crate::compile::eval) fn integers(array: &Array) -> Result<Vec<i64>, String> {
    match array.data() {
        Data::I64(v) => Ok(v.clone()),
        Data::I32(v) => Ok(v.iter().map(|&x| i64::from(x)).collect()),
        _ => Err(format!("indices are i64 or i32, not {}", array.element())),
    }
}

/// The elements of an `f32` array.
pub(in crate::compile::eval) fn floats(array: &Array) -> Result<&[f32], String> {
    array.as_f32().ok_or_else(|| {
        format!(
            "the reference computes this in f32, not {}",
            array.element()
        )
    })
}

impl Call<'_> {
    /// A list that newer operator sets give as input `place` and older ones as an attribute.
    pub(in crate::compile::eval) fn list(
        &self,
        place: usize,
        name: &str,
    ) -> Result<Option<Vec<i64>>, String> {
        match self.optional(place) {
            Some(array) => integers(array).map(Some),
            None => Ok(self.node.ints(name).map(<[i64]>::to_vec)),
        }
    }

    /// The integer attribute `name`, or what stands for one that is left out.
    pub(in crate::compile::eval) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.node.int(name).unwrap_or(default)
    }

    /// The float attribute `name`, or what stands for one that is left out.
    pub(in crate::compile::eval) fn float_or(&self, name: &str, default: f32) -> f32 {
        self.node.float(name).unwrap_or(default)
    }
}

/// An array whose size is known to fit its shape.
pub(in crate::compile::eval) fn array(shape: Vec<usize>, data: Data) -> Result<Array, String> {
    let elements = data.len();
    Array::new(shape, data).ok_or_else(|| format!("{elements} elements do not fit their shape"))
}
