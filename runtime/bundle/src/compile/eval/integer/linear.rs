//! Convolutions and matrix products of integers, as they are and requantised.
//!
//! Sums are of 32 bits and wrap, as everywhere.

use super::element::spread;
use super::parameter::{Parameters, Single, Target, integers, stretched};
use super::quantise::dynamically;
use super::{Call, Outcome};
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval::float::window::Window;
use crate::compile::eval::layout::argument::{effort, volume};

/// `ConvInteger`: the sums alone.
pub(super) fn conv_integer(call: &Call<'_>) -> Outcome {
    let x_zero = zeros(call, 2)?;
    let sums = convolved(
        call,
        call.input(0)?,
        &x_zero,
        call.input(1)?,
        &zeros(call, 3)?,
    )?;
    Ok(vec![sums.array()?])
}

/// `QLinearConv`: weights with one scale or one for each output channel, an optional bias in
/// sums.
pub(super) fn conv(call: &Call<'_>) -> Outcome {
    if call.node.int("channels_last").unwrap_or(0) != 0 {
        return Err("channels_last is not known here".to_owned());
    }
    let x = call.input(0)?;
    let w = call.input(3)?;
    let x_at = Single::of(call, 1, 2)?;
    let w_at = Parameters::of(call, 4, 5)?;
    let target = Target::of(call, 6, 7, x.element())?;
    let mut sums = convolved(call, x, &[x_at.zero], w, &w_at.zero)?;
    if let Some(bias) = call.optional(8) {
        let bias = stretched(integers(bias)?, sums.columns)?;
        sums.each_channel(|channel, sum| sum.wrapping_add(bias[channel]));
    }
    let scale = stretched(w_at.scale, sums.columns)?;
    let factors: Vec<f32> = scale
        .iter()
        .map(|s| x_at.scale * s / target.scale)
        .collect();
    sums.each_channel(|channel, sum| target.scaled(sum as f32 * factors[channel]));
    target.array(sums.shape, &sums.values)
}

/// `MatMulInteger`: the sums alone.
pub(super) fn matmul_integer(call: &Call<'_>) -> Outcome {
    let (a_zero, b_zero) = (zeros(call, 2)?, zeros(call, 3)?);
    let sums = multiplied(call.input(0)?, &a_zero, call.input(1)?, &b_zero)?;
    Ok(vec![sums.array()?])
}

/// `QLinearMatMul`: a scale for all or for each row of the left, column of the right factor.
pub(super) fn matmul(call: &Call<'_>) -> Outcome {
    let (a, b) = (call.input(0)?, call.input(3)?);
    let a_at = Parameters::of(call, 1, 2)?;
    let b_at = Parameters::of(call, 4, 5)?;
    let target = Target::of(call, 6, 7, a.element())?;
    let sums = multiplied(a, &a_at.zero, b, &b_at.zero)?;
    let rows = stretched(a_at.scale, sums.rows)?;
    let columns = stretched(b_at.scale, sums.columns)?;
    let values = sums.map(|row, column, sum| {
        target.scaled(sum as f32 * (rows[row] * columns[column] / target.scale))
    });
    target.array(sums.shape, &values)
}

/// `QGemm`: `(A * B + C) * alpha * a_scale * b_scale`, quantised where there is a scale for it.
pub(super) fn gemm(call: &Call<'_>) -> Outcome {
    let flag = |name| call.node.int(name).unwrap_or(0) != 0;
    let a = turned(call.input(0)?, flag("transA"))?;
    let b = turned(call.input(3)?, flag("transB"))?;
    let a_at = Single::of(call, 1, 2)?;
    let b_at = Parameters::of(call, 4, 5)?;
    let mut sums = multiplied(&a, &[a_at.zero], &b, &b_at.zero)?;
    if let Some(c) = call.optional(6) {
        let values = integers(c)?;
        let (shape, places) = spread(&[&sums.shape, c.shape()])?;
        if shape != sums.shape {
            return Err("C is larger than the product".to_owned());
        }
        for (sum, place) in sums.values.iter_mut().zip(&places[1]) {
            *sum = sum.wrapping_add(values[*place]);
        }
    }
    let alpha = call.node.float("alpha").unwrap_or(1.0);
    let columns = stretched(b_at.scale, sums.columns)?;
    let scale = |column: usize| alpha * a_at.scale * columns[column];
    if call.optional(7).is_none() {
        let values = sums.map(|_, column, sum| sum as f32 * scale(column));
        return floats(sums.shape, values);
    }
    let target = Target::of(call, 7, 8, a.element())?;
    let values =
        sums.map(|_, column, sum| target.scaled(sum as f32 * (scale(column) / target.scale)));
    target.array(sums.shape, &values)
}

/// `MatMulIntegerToFloat`.
pub(super) fn matmul_to_float(call: &Call<'_>) -> Outcome {
    let a_scale = Parameters::new(call.input(2)?, call.optional(4))?;
    let b_at = Parameters::of(call, 3, 5)?;
    scaled_product(
        call.input(0)?,
        &a_scale,
        call.input(1)?,
        b_at,
        call.optional(6),
    )
}

/// `DynamicQuantizeMatMul`: the left factor is quantised first.
pub(super) fn dynamic_matmul(call: &Call<'_>) -> Outcome {
    let a = call.input(0)?;
    let reals = a.as_f32().ok_or("the left factor is not f32")?;
    let (values, scale, zero) = dynamically(reals);
    let quantised = Array::new(a.shape().to_vec(), Data::U8(values));
    let quantised = quantised.ok_or("the left factor does not fit its shape")?;
    let a_at = Parameters {
        scale: vec![scale],
        zero: vec![i32::from(zero)],
    };
    let b_at = Parameters::of(call, 2, 3)?;
    scaled_product(&quantised, &a_at, call.input(1)?, b_at, call.optional(4))
}

fn scaled_product(
    a: &Array,
    a_at: &Parameters,
    b: &Array,
    b_at: Parameters,
    bias: Option<&Array>,
) -> Outcome {
    let sums = multiplied(a, &a_at.zero, b, &b_at.zero)?;
    let rows = stretched(a_at.scale.clone(), sums.rows)?;
    let columns = stretched(b_at.scale, sums.columns)?;
    let bias = match bias {
        Some(bias) => {
            let bias = bias.as_f32().ok_or("the bias is not f32")?;
            stretched(bias.to_vec(), sums.columns)?
        }
        None => vec![0.0; sums.columns],
    };
    let values =
        sums.map(|row, column, sum| sum as f32 * (rows[row] * columns[column]) + bias[column]);
    floats(sums.shape, values)
}

fn floats(shape: Vec<usize>, values: Vec<f32>) -> Outcome {
    let array = Array::new(shape, Data::F32(values));
    Ok(vec![array.ok_or("the result does not fit its shape")?])
}

/// The zero points at input `place`, or one zero.
fn zeros(call: &Call<'_>, place: usize) -> Result<Vec<i32>, String> {
    call.optional(place).map_or(Ok(vec![0]), integers)
}

/// A matrix, transposed where `turn` says so.
fn turned(matrix: &Array, turn: bool) -> Result<Array, String> {
    let &[rows, columns] = matrix.shape() else {
        return Err("a factor is no matrix".to_owned());
    };
    if !turn {
        return Ok(matrix.clone());
    }
    let values = integers(matrix)?;
    let turned: Vec<i32> = (0..columns)
        .flat_map(|c| (0..rows).map(move |r| r * columns + c))
        .map(|place| values[place])
        .collect();
    let array = Array::integers(matrix.element(), vec![columns, rows], &turned);
    array.ok_or_else(|| "a factor does not fit its type".to_owned())
}

/// Sums of products, not scaled yet.
struct Sums {
    shape: Vec<usize>,
    /// Rows of a matrix product; 1 for a convolution.
    rows: usize,
    /// Columns of a matrix product, or output channels of a convolution.
    columns: usize,
    /// Elements of one output channel of a convolution; 1 for a matrix product.
    plane: usize,
    values: Vec<i32>,
}

impl Sums {
    fn array(self) -> Result<Array, String> {
        let array = Array::integers(ElementType::I32, self.shape, &self.values);
        array.ok_or_else(|| "the result does not fit its shape".to_owned())
    }

    fn each_channel(&mut self, value: impl Fn(usize, i32) -> i32) {
        for (place, sum) in self.values.iter_mut().enumerate() {
            *sum = value(place / self.plane % self.columns, *sum);
        }
    }

    fn map<T>(&self, value: impl Fn(usize, usize, i32) -> T) -> Vec<T> {
        let all = self.values.iter().enumerate();
        let at = |place: usize| (place / self.columns % self.rows, place % self.columns);
        all.map(|(place, sum)| value(at(place).0, at(place).1, *sum))
            .collect()
    }
}

fn convolved(
    call: &Call<'_>,
    x: &Array,
    x_zero: &[i32],
    w: &Array,
    w_zero: &[i32],
) -> Result<Sums, String> {
    let &[x_zero] = x_zero else {
        return Err("the input of a convolution has one zero point".to_owned());
    };
    let (&[batch, channels, ref input @ ..], &[made, each, ref kernel @ ..]) =
        (x.shape(), w.shape())
    else {
        return Err("a convolution takes at least two axes".to_owned());
    };
    let groups = usize::try_from(call.node.int("group").unwrap_or(1)).unwrap_or(0);
    if groups == 0 || each.checked_mul(groups) != Some(channels) || made % groups != 0 {
        return Err(format!(
            "{channels} channels in {groups} groups do not fit weights of shape {:?}",
            w.shape()
        ));
    }
    if input.len() != kernel.len() {
        return Err("input and weights differ in their axes".to_owned());
    }
    let window = Window::of(call, input, kernel)?;
    let w_zero = stretched(w_zero.to_vec(), made)?;
    let x: Vec<i32> = integers(x)?
        .iter()
        .map(|q| q.wrapping_sub(x_zero))
        .collect();
    let w = integers(w)?;
    let mut shape = vec![batch, made];
    shape.extend(window.output());
    let size = volume(&shape)?;
    effort(&[size, each, kernel.iter().product()])?;
    let plane: usize = window.output().iter().product();
    let from_plane: usize = input.iter().product();
    let kernel: usize = kernel.iter().product();
    let mut values = vec![0i32; size];
    let mut taps = Vec::new();
    for place in 0..plane {
        window.taps(place, &mut taps);
        for image in 0..batch {
            for channel in 0..made {
                let first = channel / (made / groups) * each;
                let zero = w_zero[channel];
                let mut sum = 0i32;
                for own in 0..each {
                    let weights = &w[(channel * each + own) * kernel..][..kernel];
                    let at = (image * channels + first + own) * from_plane;
                    let from = &x[at..][..from_plane];
                    for &(tap, input) in &taps {
                        let weight = weights[tap].wrapping_sub(zero);
                        sum = sum.wrapping_add(weight.wrapping_mul(from[input]));
                    }
                }
                values[(image * made + channel) * plane + place] = sum;
            }
        }
    }
    Ok(Sums {
        shape,
        rows: 1,
        columns: made,
        plane,
        values,
    })
}

fn multiplied(a: &Array, a_zero: &[i32], b: &Array, b_zero: &[i32]) -> Result<Sums, String> {
    // A vector is a row on the left, a column on the right; its axis is gone from the result.
    let (mut left, mut right) = (a.shape().to_vec(), b.shape().to_vec());
    let (row, column) = (left.len() == 1, right.len() == 1);
    if row {
        left.insert(0, 1);
    }
    if column {
        right.push(1);
    }
    let ([left @ .., rows, inner], [right @ .., same, columns]) =
        (left.as_slice(), right.as_slice())
    else {
        return Err("a factor is a scalar".to_owned());
    };
    let (rows, inner, columns) = (*rows, *inner, *columns);
    if inner != *same {
        return Err(format!(
            "{inner} columns cannot be multiplied by {same} rows"
        ));
    }
    let (batch, places) = spread(&[left, right])?;
    let mut shape = batch;
    if !row {
        shape.push(rows);
    }
    if !column {
        shape.push(columns);
    }
    let (a_zero, b_zero) = (
        stretched(a_zero.to_vec(), rows)?,
        stretched(b_zero.to_vec(), columns)?,
    );
    let (a, b) = (integers(a)?, integers(b)?);
    let size = volume(&shape)?;
    effort(&[size, inner])?;
    let mut values = vec![0i32; size];
    let whole = (rows * columns).max(1);
    let matrices = values
        .chunks_mut(whole)
        .zip(places[0].iter().zip(&places[1]));
    for (product, (at_a, at_b)) in matrices {
        let a = &a[at_a * rows * inner..];
        let b = &b[at_b * inner * columns..];
        for (r, sums) in product.chunks_mut(columns.max(1)).enumerate() {
            for k in 0..inner {
                let factor = a[r * inner + k].wrapping_sub(a_zero[r]);
                let others = b[k * columns..].iter().zip(&b_zero);
                for (sum, (other, zero)) in sums.iter_mut().zip(others) {
                    let other = other.wrapping_sub(*zero);
                    *sum = sum.wrapping_add(factor.wrapping_mul(other));
                }
            }
        }
    }
    Ok(Sums {
        shape,
        rows,
        columns,
        plane: 1,
        values,
    })
}
