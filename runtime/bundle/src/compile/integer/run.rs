//! The plain executor: one layer after the other, each as its definition reads.
//!
//! It relies on what `check` has proved: shapes fit, sums stay within 32 bits. Only the order
//! of loops is chosen for speed.

use super::super::array::{Array, Data};
use super::{Element, IntegerError, IntegerModel, Layer, Linear, Operator, Window};

/// What a layer computed, before it is rounded.
enum Made {
    /// Final integers.
    Integers(Vec<i32>),
    /// In steps of the output.
    Steps(Vec<f32>),
}

impl IntegerModel {
    /// Computes the output for one input.
    ///
    /// # Errors
    /// [`IntegerError::Input`] when the input has another type or shape than the model takes.
    pub fn run(&self, input: &Array) -> Result<Array, IntegerError> {
        let mut values: Vec<Vec<i32>> = vec![Vec::new(); self.tensors.len()];
        values[0] = self.entered(input)?;
        let last = self.last_reads();
        let mut reals = Vec::new();
        for (place, layer) in self.layers.iter().enumerate() {
            let output = &self.tensors[layer.output];
            match self.made(layer, &values) {
                Made::Integers(integers) => values[layer.output] = integers,
                Made::Steps(steps) if output.element == Element::F32 => reals = steps,
                Made::Steps(steps) => {
                    values[layer.output] = rounded(&steps, layer, output.zero_point)
                }
            }
            for &read in layer.inputs.iter().filter(|&&t| last[t] == place) {
                values[read] = Vec::new();
            }
        }
        let output = self.output();
        let integers = std::mem::take(&mut values[self.output]);
        let data = match output.element {
            Element::F32 => Data::F32(reals),
            _ if self.float_output => {
                let real = |&q: &i32| (q - output.zero_point) as f32 * output.scale;
                Data::F32(integers.iter().map(real).collect())
            }
            Element::I8 => Data::I8(integers.iter().map(|&q| q as i8).collect()),
            Element::U8 => Data::U8(integers.iter().map(|&q| q as u8).collect()),
        };
        Array::new(output.shape.clone(), data)
            .ok_or_else(|| IntegerError::Invalid("the output has another size".to_owned()))
    }

    /// The integers of the caller's input.
    fn entered(&self, input: &Array) -> Result<Vec<i32>, IntegerError> {
        let tensor = self.input();
        let integers = match (self.float_input, tensor.element, input.data()) {
            (true, _, Data::F32(v)) => v.iter().map(|&x| tensor.quantise(x)).collect(),
            (false, Element::I8, Data::I8(v)) => v.iter().map(|&x| i32::from(x)).collect(),
            (false, Element::U8, Data::U8(v)) => v.iter().map(|&x| i32::from(x)).collect(),
            _ => Vec::new(),
        };
        if input.shape() == tensor.shape && integers.len() == tensor.len() {
            return Ok(integers);
        }
        let element = if self.float_input {
            Element::F32
        } else {
            tensor.element
        };
        Err(IntegerError::Input {
            wanted: format!("{element}{:?}", tensor.shape),
            got: format!("{}{:?}", input.element(), input.shape()),
        })
    }

    /// The last layer that reads each tensor; no layer for what nobody reads.
    pub(super) fn last_reads(&self) -> Vec<usize> {
        let mut last = vec![usize::MAX; self.tensors.len()];
        for (place, layer) in self.layers.iter().enumerate() {
            for &input in &layer.inputs {
                last[input] = place;
            }
        }
        last[self.output] = usize::MAX;
        last
    }

    fn made(&self, layer: &Layer, values: &[Vec<i32>]) -> Made {
        let tensor = |n: usize| &self.tensors[layer.inputs[n]];
        let integers = |n: usize| values[layer.inputs[n]].as_slice();
        let shape = |n: usize| tensor(n).shape.as_slice();
        // Differences from the zero point.
        let inner = |n: usize| -> Vec<i32> {
            let zero = tensor(n).zero_point;
            integers(n).iter().map(|&q| q - zero).collect()
        };
        let output = &self.tensors[layer.output];
        match &layer.operator {
            Operator::Conv {
                window,
                groups,
                linear,
            } => Made::Steps(conv(
                &inner(0),
                shape(0),
                &output.shape,
                window,
                *groups,
                linear,
            )),
            Operator::Dense(linear) => Made::Steps(dense(&inner(0), linear)),
            Operator::MatMul { multiplier } => Made::Steps(matmul(
                &inner(0),
                shape(0),
                &inner(1),
                shape(1),
                *multiplier,
            )),
            Operator::Add { multipliers } => {
                let [a, b] = pair(integers(0), shape(0), integers(1), shape(1), &output.shape);
                let [ma, mb] = *multipliers;
                let zero = |n: usize| tensor(n).zero_point as f32;
                let fixed = output.zero_point as f32 - (ma * zero(0) + mb * zero(1));
                let sum = |(&a, &b): (&i32, &i32)| fixed + a as f32 * ma + b as f32 * mb;
                let steps: Vec<f32> = a.iter().zip(&b).map(sum).collect();
                match output.element {
                    Element::F32 => Made::Steps(steps),
                    // The zero point is in the sum already.
                    _ => Made::Integers(rounded(&steps, layer, 0)),
                }
            }
            Operator::Mul { multiplier } => {
                let [a, b] = pair(&inner(0), shape(0), &inner(1), shape(1), &output.shape);
                let product = a.iter().zip(&b).map(|(&a, &b)| (a * b) as f32 * multiplier);
                Made::Steps(product.collect())
            }
            Operator::Concat { axis, multipliers } => {
                let parts: Vec<Vec<f32>> = multipliers
                    .iter()
                    .enumerate()
                    .map(|(n, m)| inner(n).iter().map(|&x| x as f32 * m).collect())
                    .collect();
                let outer: usize = output.shape[..*axis].iter().product();
                let mut steps = Vec::with_capacity(output.len());
                for row in 0..outer {
                    for part in &parts {
                        let width = part.len() / outer;
                        steps.extend_from_slice(&part[row * width..(row + 1) * width]);
                    }
                }
                Made::Steps(steps)
            }
            Operator::AveragePool {
                window,
                count_padding,
                scales: [from, to],
            } => {
                let area = window.kernel[0] * window.kernel[1];
                let values: Vec<f32> = inner(0).iter().map(|&x| x as f32 * from).collect();
                Made::Steps(pool(shape(0), &output.shape, window, |inside| {
                    let sum = inside.iter().fold(0.0, |sum, &place| sum + values[place]);
                    let count = if *count_padding {
                        area
                    } else {
                        inside.len().max(1)
                    };
                    sum / count as f32 / to
                }))
            }
            Operator::Mean { axis, multiplier } => {
                let count: usize = shape(0)[*axis..].iter().product();
                let values = inner(0);
                let mean =
                    |part: &[i32]| part.iter().sum::<i32>() as f32 * multiplier / count as f32;
                Made::Steps(values.chunks(count).map(mean).collect())
            }
            Operator::MaxPool(window) => {
                let values = integers(0);
                let least = output.element.range()[0];
                Made::Integers(pool(shape(0), &output.shape, window, |inside| {
                    let inside = inside.iter().map(|&place| values[place]);
                    inside.max().unwrap_or(least)
                }))
            }
            Operator::Softmax {
                axis,
                exponentials,
                multiplier,
            } => Made::Steps(softmax(
                integers(0),
                shape(0),
                *axis,
                exponentials,
                *multiplier,
            )),
            Operator::Table(table) => {
                let low = tensor(0).element.range()[0];
                let entry = |&q: &i32| match output.element {
                    Element::I8 => i32::from(table[(q - low) as usize] as i8),
                    _ => i32::from(table[(q - low) as usize]),
                };
                Made::Integers(integers(0).iter().map(entry).collect())
            }
            Operator::Values(table) => {
                let low = tensor(0).element.range()[0];
                let entry = |&q: &i32| table[(q - low) as usize];
                Made::Steps(integers(0).iter().map(entry).collect())
            }
            Operator::Scale {
                axis,
                multipliers,
                offsets,
            } => {
                let width: usize = output.shape[axis + 1..].iter().product();
                let step = |(place, x): (usize, i32)| {
                    let channel = place / width % multipliers.len();
                    x as f32 * multipliers[channel] + offsets[channel]
                };
                Made::Steps(inner(0).into_iter().enumerate().map(step).collect())
            }
            Operator::Reshape => Made::Integers(integers(0).to_vec()),
            Operator::Transpose(order) => {
                let strides = strides(shape(0));
                let moved: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
                Made::Integers(gather(integers(0), &output.shape, 0, &moved))
            }
            Operator::Slice { starts, steps } => {
                let strides = strides(shape(0));
                let start = starts.iter().zip(&strides).map(|(a, b)| a * b).sum();
                let moved: Vec<usize> = steps.iter().zip(&strides).map(|(a, b)| a * b).collect();
                Made::Integers(gather(integers(0), &output.shape, start, &moved))
            }
            Operator::Pad { before, value } => {
                let strides = strides(&output.shape);
                let start = before.iter().zip(&strides).map(|(a, b)| a * b).sum();
                let mut padded = vec![*value; output.len()];
                each(shape(0), start, &strides, |n, place| {
                    padded[place] = integers(0)[n]
                });
                Made::Integers(padded)
            }
        }
    }
}

fn rounded(steps: &[f32], layer: &Layer, zero_point: i32) -> Vec<i32> {
    let [low, high] = layer.clamp.map(i64::from);
    let zero = i64::from(zero_point);
    let integer = |&step: &f32| {
        // Clamped before it is narrowed; the cast to 64 bits saturates.
        (step.round_ties_even() as i64)
            .saturating_add(zero)
            .clamp(low, high) as i32
    };
    steps.iter().map(integer).collect()
}

/// Batch, channels, height and width; one spatial axis is a width.
pub(super) fn image(shape: &[usize]) -> Option<[usize; 4]> {
    match *shape {
        [n, c, w] => Some([n, c, 1, w]),
        [n, c, h, w] => Some([n, c, h, w]),
        _ => None,
    }
}

fn conv(
    input: &[i32],
    from: &[usize],
    to: &[usize],
    window: &Window,
    groups: usize,
    linear: &Linear,
) -> Vec<f32> {
    let (Some([n, c, h, w]), Some([_, oc, oh, ow])) = (image(from), image(to)) else {
        return Vec::new();
    };
    let weights = linear.weights.differences();
    let [kh, kw] = window.kernel;
    let per_group = c / groups;
    let mut steps = Vec::with_capacity(n * oc * oh * ow);
    for batch in 0..n {
        for out in 0..oc {
            let first = out / (oc / groups) * per_group;
            for y in 0..oh {
                let mut row = vec![linear.bias[out]; ow];
                for (k, &weight) in weights[out * per_group * kh * kw..][..per_group * kh * kw]
                    .iter()
                    .enumerate()
                {
                    let (channel, ky, kx) = (first + k / (kh * kw), k / kw % kh, k % kw);
                    let at = y * window.strides[0] + ky * window.dilations[0];
                    let Some(at) = at.checked_sub(window.pads[0]).filter(|&at| at < h) else {
                        continue;
                    };
                    let line = &input[((batch * c + channel) * h + at) * w..][..w];
                    let shift = kx * window.dilations[1];
                    add_line(
                        &mut row,
                        line,
                        weight,
                        shift,
                        window.pads[1],
                        window.strides[1],
                    );
                }
                let multiplier = linear.multipliers[out];
                steps.extend(row.iter().map(|&sum| sum as f32 * multiplier));
            }
        }
    }
    steps
}

/// Adds `weight` times what each window of a row sees at `shift` from its left edge.
fn add_line(row: &mut [i32], line: &[i32], weight: i32, shift: usize, pad: usize, stride: usize) {
    let begin = pad.saturating_sub(shift).div_ceil(stride);
    if begin >= row.len() {
        return;
    }
    let first = begin * stride + shift - pad;
    if first < line.len() {
        let seen = line[first..].iter().step_by(stride);
        for (sum, x) in row[begin..].iter_mut().zip(seen) {
            *sum += weight * x;
        }
    }
}

fn dense(input: &[i32], linear: &Linear) -> Vec<f32> {
    let weights = linear.weights.differences();
    let width = weights.len() / linear.bias.len();
    let mut steps = Vec::new();
    for row in input.chunks(width) {
        for (out, weights) in weights.chunks(width).enumerate() {
            let sum: i32 = row.iter().zip(weights).map(|(x, w)| x * w).sum();
            steps.push((sum + linear.bias[out]) as f32 * linear.multipliers[out]);
        }
    }
    steps
}

fn matmul(a: &[i32], at: &[usize], b: &[i32], bt: &[usize], multiplier: f32) -> Vec<f32> {
    let (rows, inner) = (at[at.len() - 2], at[at.len() - 1]);
    let columns = bt[bt.len() - 1];
    let mut steps = Vec::new();
    for (batch, a) in a.chunks(rows * inner).enumerate() {
        // One right side for all, or one for each.
        let start = if bt.len() == 2 {
            0
        } else {
            batch * inner * columns
        };
        let b = &b[start..][..inner * columns];
        for row in a.chunks(inner) {
            for column in 0..columns {
                let right = b[column..].iter().step_by(columns);
                let sum: i32 = row.iter().zip(right).map(|(a, b)| a * b).sum();
                steps.push(sum as f32 * multiplier);
            }
        }
    }
    steps
}

/// For each window, what `value` makes of the places in the input that it sees.
fn pool<T>(
    from: &[usize],
    to: &[usize],
    window: &Window,
    mut value: impl FnMut(&[usize]) -> T,
) -> Vec<T> {
    let (Some([n, c, h, w]), Some([_, _, oh, ow])) = (image(from), image(to)) else {
        return Vec::new();
    };
    let mut values = Vec::with_capacity(n * c * oh * ow);
    let mut inside = Vec::new();
    for plane in 0..n * c {
        for place in 0..oh * ow {
            inside.clear();
            for k in 0..window.kernel[0] * window.kernel[1] {
                let y = place / ow * window.strides[0] + k / window.kernel[1] * window.dilations[0];
                let x = place % ow * window.strides[1] + k % window.kernel[1] * window.dilations[1];
                let (y, x) = (
                    y.wrapping_sub(window.pads[0]),
                    x.wrapping_sub(window.pads[1]),
                );
                if y < h && x < w {
                    inside.push((plane * h + y) * w + x);
                }
            }
            values.push(value(&inside));
        }
    }
    values
}

fn softmax(
    input: &[i32],
    shape: &[usize],
    axis: usize,
    exponentials: &[f32],
    multiplier: f32,
) -> Vec<f32> {
    let length = shape[axis];
    let width: usize = shape[axis + 1..].iter().product();
    let mut steps = vec![0.0; input.len()];
    for outer in 0..input.len() / (length * width) {
        for column in 0..width {
            let place = |n: usize| (outer * length + n) * width + column;
            let largest = (0..length).map(|n| input[place(n)]).max().unwrap_or(0);
            let exponential = |n: usize| exponentials[(largest - input[place(n)]) as usize];
            let sum: f32 = (0..length).map(exponential).sum();
            for n in 0..length {
                steps[place(n)] = exponential(n) / sum * multiplier;
            }
        }
    }
    steps
}

/// Elements from one to the next of each axis.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Calls for each element of `shape` with its place in it and the place that `start` and
/// `strides` give.
fn each(shape: &[usize], start: usize, strides: &[usize], mut visit: impl FnMut(usize, usize)) {
    let mut at = vec![0; shape.len()];
    let mut place = start;
    for n in 0..shape.iter().product() {
        visit(n, place);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            place += strides[axis];
            if at[axis] < shape[axis] {
                break;
            }
            place -= strides[axis] * at[axis];
            at[axis] = 0;
        }
    }
}

fn gather(input: &[i32], shape: &[usize], start: usize, strides: &[usize]) -> Vec<i32> {
    let mut values = Vec::with_capacity(shape.iter().product());
    each(shape, start, strides, |_, place| values.push(input[place]));
    values
}

/// Both sides, repeated where their axes are shorter than the output's.
fn pair(a: &[i32], at: &[usize], b: &[i32], bt: &[usize], to: &[usize]) -> [Vec<i32>; 2] {
    [(a, at), (b, bt)].map(|(values, shape)| {
        if shape == to {
            return values.to_vec();
        }
        let missing = to.len() - shape.len();
        let own = strides(shape);
        let repeated = |axis: usize| match axis.checked_sub(missing) {
            Some(axis) if shape[axis] != 1 => own[axis],
            _ => 0,
        };
        let strides: Vec<usize> = (0..to.len()).map(repeated).collect();
        gather(values, to, 0, &strides)
    })
}
