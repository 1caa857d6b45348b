//! Products of matrices: `MatMul` with numpy's rules, and `Gemm`.

use super::super::{Call, Outcome};
use super::convolve::dot;
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{array, effort, floats, strides, volume};
use crate::compile::eval::layout::select::{broadcast, common_shape, grid};

/// Products of matrices whose sizes fit together.
pub(in crate::compile::eval) struct Product {
    /// Rows, inner length and columns.
    pub(in crate::compile::eval) rows: usize,
    pub(in crate::compile::eval) inner: usize,
    pub(in crate::compile::eval) columns: usize,
    /// Shape of the result.
    pub(in crate::compile::eval) shape: Vec<usize>,
    /// Offsets of the left and right matrix of each product.
    places: Vec<(usize, usize)>,
}

impl Product {
    /// By numpy's rules: axes in front are broadcast, a row is a matrix of one row or column
    /// whose axis the result does not have.
    pub(in crate::compile::eval) fn of(left: &[usize], right: &[usize]) -> Result<Self, String> {
        let refused = || format!("{left:?} and {right:?} have no product");
        let (outer_left, rows, inner) = match *left {
            [] => return Err(refused()),
            [inner] => (&left[..0], 1, inner),
            [ref outer @ .., rows, inner] => (outer, rows, inner),
        };
        let (outer_right, depth, columns) = match *right {
            [] => return Err(refused()),
            [depth] => (&right[..0], depth, 1),
            [ref outer @ .., depth, columns] => (outer, depth, columns),
        };
        if inner != depth {
            return Err(refused());
        }
        let outer = common_shape(&[outer_left, outer_right])?;
        let mut shape = outer.clone();
        shape.extend((left.len() > 1).then_some(rows));
        shape.extend((right.len() > 1).then_some(columns));
        volume(&shape)?;
        volume(left)?;
        volume(right)?;
        effort(&[volume(&outer)?, rows, columns, inner])?;
        let lefts = matrices(outer_left, &outer, rows * inner);
        let rights = matrices(outer_right, &outer, inner * columns);
        let places = lefts.into_iter().zip(rights).collect();
        Ok(Self {
            rows,
            inner,
            columns,
            shape,
            places,
        })
    }

    /// Every element of the result in its order, by `product` of a row and a column.
    pub(in crate::compile::eval) fn run<T: Copy, R>(
        &self,
        left: &[T],
        right: &[T],
        product: impl Fn(&[T], &[T]) -> R,
    ) -> Vec<R> {
        let mut results = Vec::with_capacity(self.places.len() * self.rows * self.columns);
        let mut known = None;
        let mut across = Vec::new();
        for &(a, b) in &self.places {
            if known != Some(b) {
                across = transposed(&right[b..], self.inner, self.columns);
                known = Some(b);
            }
            for row in 0..self.rows {
                let row = &left[a + row * self.inner..a + (row + 1) * self.inner];
                for column in 0..self.columns {
                    let column = &across[column * self.inner..(column + 1) * self.inner];
                    results.push(product(row, column));
                }
            }
        }
        results
    }
}

/// Where the matrices lie that are broadcast to `outer`.
fn matrices(own: &[usize], outer: &[usize], matrix: usize) -> Vec<usize> {
    let new = outer.len() - own.len();
    let steps = strides(own);
    let mut lists = Vec::with_capacity(outer.len());
    for (axis, &length) in outer.iter().enumerate() {
        let step = match axis.checked_sub(new) {
            Some(n) if own[n] != 1 => steps[n].saturating_mul(matrix),
            _ => 0,
        };
        lists.push((0..length).map(|n| n * step).collect());
    }
    grid(&lists)
}

/// The columns of a matrix behind one another.
fn transposed<T: Copy>(matrix: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut across = Vec::with_capacity(rows * columns);
    for column in 0..columns {
        let mut place = column;
        for _ in 0..rows {
            across.push(matrix[place]);
            place += columns;
        }
    }
    across
}

pub(super) fn matmul(call: &Call<'_>) -> Outcome {
    let (left, right) = (call.input(0)?, call.input(1)?);
    let product = Product::of(left.shape(), right.shape())?;
    let result = product.run(floats(left)?, floats(right)?, |a, b| dot(a, b) as f32);
    array(product.shape, Data::F32(result)).map(|a| vec![a])
}

/// A matrix as `Gemm` reads it.
fn matrix(from: &Array, across: bool) -> Result<Array, String> {
    let &[rows, columns] = from.shape() else {
        return Err(format!("{:?} is no matrix", from.shape()));
    };
    volume(from.shape())?;
    if !across {
        return Ok(from.clone());
    }
    let data = Data::F32(transposed(floats(from)?, rows, columns));
    array(vec![columns, rows], data)
}

/// alpha * A * B + beta * C, where C is stretched to the product.
pub(super) fn gemm(call: &Call<'_>) -> Outcome {
    let left = matrix(call.input(0)?, call.int_or("transA", 0) != 0)?;
    let right = matrix(call.input(1)?, call.int_or("transB", 0) != 0)?;
    let alpha = f64::from(call.float_or("alpha", 1.0));
    let beta = f64::from(call.float_or("beta", 1.0));
    let product = Product::of(left.shape(), right.shape())?;
    let sums = product.run(floats(&left)?, floats(&right)?, dot);
    let result: Vec<f32> = match call.optional(2) {
        Some(more) => {
            let more = broadcast(more, &product.shape)?;
            let pairs = sums.iter().zip(floats(&more)?);
            pairs
                .map(|(sum, &c)| (alpha * sum + beta * f64::from(c)) as f32)
                .collect()
        }
        None => sums.iter().map(|sum| (alpha * sum) as f32).collect(),
    };
    array(product.shape, Data::F32(result)).map(|a| vec![a])
}
