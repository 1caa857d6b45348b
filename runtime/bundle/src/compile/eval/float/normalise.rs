//! Operators that bring values to a common size: softmax and the normalisations.

use super::super::{Call, Outcome};
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{array, axis, floats, size, volume};
use crate::compile::eval::layout::select::broadcast;

/// Along one axis; before operator set 13 along that axis and all behind it together.
pub(super) fn softmax(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let (rank, shape) = (input.rank(), input.shape());
    volume(shape)?;
    let old = call.opset < 13;
    let first = call.int_or("axis", if old { 1 } else { -1 });
    let first = match usize::try_from(first) {
        // Everything is one element of a row then.
        Ok(behind) if old && behind == rank => rank,
        _ => axis(first, rank)?,
    };
    let behind: usize = shape[first..].iter().skip(1).product();
    let own = shape.get(first).copied().unwrap_or(1);
    let (length, inner) = if old {
        (own * behind, 1)
    } else {
        (own, behind)
    };
    let log = call.node.op == "LogSoftmax";
    let mut result = floats(input)?.to_vec();
    for block in result.chunks_exact_mut((length * inner).max(1)) {
        for column in 0..inner {
            let places = || (0..length).map(|n| n * inner + column);
            let most = places().fold(f32::NEG_INFINITY, |most, n| most.max(block[n]));
            let above = |x: f32| f64::from(x) - f64::from(most);
            let sum: f64 = places().map(|n| above(block[n]).exp()).sum();
            for n in places() {
                block[n] = match log {
                    true => (above(block[n]) - sum.ln()) as f32,
                    false => (above(block[n]).exp() / sum) as f32,
                };
            }
        }
    }
    array(shape.to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// Batch, channels and what lies in a channel.
fn channels(input: &Array) -> Result<(usize, usize), String> {
    volume(input.shape())?;
    match input.shape() {
        [_, channels, plane @ ..] => Ok((*channels, plane.iter().product())),
        shape => Err(format!("it takes batch and channels, not {shape:?}")),
    }
}

fn of_channels<'a>(call: &Call<'a>, place: usize, channels: usize) -> Result<&'a [f32], String> {
    let values = floats(call.input(place)?)?;
    match values.len() == channels {
        true => Ok(values),
        false => Err(format!(
            "input {place} is not one number for each of {channels} channels"
        )),
    }
}

/// By the mean and variance that training left.
pub(super) fn batch(call: &Call<'_>) -> Outcome {
    if call.int_or("training_mode", 0) != 0 || call.int_or("spatial", 1) == 0 {
        return Err("the reference knows it only as it is used, by channel".to_owned());
    }
    let input = call.input(0)?;
    let (channels, plane) = channels(input)?;
    let part = |place: usize| of_channels(call, place, channels);
    let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
    let epsilon = f64::from(call.float_or("epsilon", 1e-5));
    let mut result = floats(input)?.to_vec();
    for (n, values) in result.chunks_exact_mut(plane.max(1)).enumerate() {
        let n = n % channels.max(1);
        let factor = f64::from(scale[n]) / (f64::from(variance[n]) + epsilon).sqrt();
        for value in values {
            let centred = f64::from(*value) - f64::from(mean[n]);
            *value = (centred * factor + f64::from(shift[n])) as f32;
        }
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// Mean, and one by the square root of variance and epsilon.
pub(super) fn moments(values: &[f32], epsilon: f32) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let square = |&x: &f32| (f64::from(x) - mean) * (f64::from(x) - mean);
    let variance = values.iter().map(square).sum::<f64>() / count;
    (mean, 1.0 / (variance + f64::from(epsilon)).sqrt())
}

/// By the mean and variance of each channel itself.
pub(super) fn instance(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let (channels, plane) = channels(input)?;
    let (scale, shift) = (
        of_channels(call, 1, channels)?,
        of_channels(call, 2, channels)?,
    );
    let epsilon = call.float_or("epsilon", 1e-5);
    let mut result = floats(input)?.to_vec();
    for (n, values) in result.chunks_exact_mut(plane.max(1)).enumerate() {
        let n = n % channels.max(1);
        let (mean, by) = moments(values, epsilon);
        for value in values {
            let normal = (f64::from(*value) - mean) * by;
            *value = (normal * f64::from(scale[n]) + f64::from(shift[n])) as f32;
        }
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// By the mean and variance of all axes from one on. Both are given as well.
pub(super) fn layer(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    volume(input.shape())?;
    let first = axis(call.int_or("axis", -1), input.rank())?;
    let (outer, inner) = input.shape().split_at(first);
    let length: usize = inner.iter().product();
    let scale = broadcast(call.input(1)?, inner)?;
    let shift = call.optional(2).map(|b| broadcast(b, inner)).transpose()?;
    let scale = floats(&scale)?;
    let shift = shift.as_deref().map(floats).transpose()?;
    let epsilon = call.float_or("epsilon", 1e-5);
    let mut result = floats(input)?.to_vec();
    let (mut means, mut factors) = (Vec::new(), Vec::new());
    for values in result.chunks_exact_mut(length.max(1)) {
        let (mean, by) = moments(values, epsilon);
        means.push(mean as f32);
        factors.push(by as f32);
        for (n, value) in values.iter_mut().enumerate() {
            let own = shift.map_or(0.0, |s| f64::from(s[n]));
            *value = ((f64::from(*value) - mean) * by * f64::from(scale[n]) + own) as f32;
        }
    }
    let mut ones = outer.to_vec();
    ones.resize(input.rank(), 1);
    let mut results = vec![array(input.shape().to_vec(), Data::F32(result))?];
    if call.node.outputs.len() > 1 {
        results.push(array(ones.clone(), Data::F32(means))?);
        results.push(array(ones, Data::F32(factors))?);
    }
    Ok(results)
}

/// `LRN`: by the squares of the same place in the channels around.
pub(super) fn neighbours(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let (channels, plane) = channels(input)?;
    let around = size(call.int_or("size", 0))?;
    if around == 0 {
        return Err("it has no size".to_owned());
    }
    let alpha = f64::from(call.float_or("alpha", 1e-4));
    let beta = f64::from(call.float_or("beta", 0.75));
    let bias = f64::from(call.float_or("bias", 1.0));
    let values = floats(input)?;
    let mut result = Vec::with_capacity(values.len());
    for (offset, &value) in values.iter().enumerate() {
        let channel = offset / plane.max(1) % channels.max(1);
        let first = channel.saturating_sub((around - 1) / 2);
        let last = channel.saturating_add(around / 2).min(channels - 1);
        let mut sum = 0.0;
        for other in first..=last {
            let other = f64::from(values[offset + other * plane - channel * plane]);
            sum += other * other;
        }
        let by = (bias + alpha / around as f64 * sum).powf(beta);
        result.push((f64::from(value) / by) as f32);
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}
