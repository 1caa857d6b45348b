//! Normalisations over groups of channels, along axes, and by lengths.

use super::super::{Call, Outcome};
use crate::compile::array::Data;
use crate::compile::eval::layout::argument::{array, axes, axis, floats, size, strides};
use crate::compile::eval::layout::select::{broadcast, grid};

/// By mean and variance of each group of channels. Scale and shift are one for each channel,
/// before operator set 21 one for each group.
pub(super) fn group(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let &[_, channels, ref plane @ ..] = input.shape() else {
        return Err("it takes batch and channels".to_owned());
    };
    let plane: usize = plane.iter().product();
    let groups = size(call.int_or("num_groups", 0))?;
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!("{channels} channels are not {groups} groups"));
    }
    let each = channels / groups;
    let (scale, shift) = (floats(call.input(1)?)?, floats(call.input(2)?)?);
    let known = [channels, groups].contains(&scale.len()) && scale.len() == shift.len();
    if !known {
        return Err("scale and shift are one number for each channel".to_owned());
    }
    let epsilon = call.float_or("epsilon", 1e-5);
    let mut result = floats(input)?.to_vec();
    for (n, values) in result.chunks_exact_mut((each * plane).max(1)).enumerate() {
        let group = n % groups;
        let (mean, by) = super::normalise::moments(values, epsilon);
        for (n, value) in values.iter_mut().enumerate() {
            let own = match scale.len() == channels {
                true => group * each + n / plane,
                false => group,
            };
            let normal = (f64::from(*value) - mean) * by;
            *value = (normal * f64::from(scale[own]) + f64::from(shift[own])) as f32;
        }
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// `LpNormalization`: by the sum of sizes or the root of the sum of squares along an axis.
pub(super) fn length(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let axis = axis(call.int_or("axis", -1), input.rank())?;
    let power = call.int_or("p", 2);
    let (length, inner) = (input.shape()[axis], strides(input.shape())[axis]);
    let mut result = floats(input)?.to_vec();
    for block in result.chunks_exact_mut((length * inner).max(1)) {
        for column in 0..inner {
            let values = (0..length).map(|n| f64::from(block[n * inner + column]));
            let norm = match power {
                1 => values.map(f64::abs).sum(),
                2 => values.map(|x| x * x).sum::<f64>().sqrt(),
                _ => return Err(format!("there is no norm {power} here")),
            };
            for n in 0..length {
                let value = &mut block[n * inner + column];
                *value = if norm == 0.0 {
                    0.0
                } else {
                    (f64::from(*value) / norm) as f32
                };
            }
        }
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// `RMSNormalization`: by the root of the mean square of all axes from one on.
pub(super) fn mean_square(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let first = axis(call.int_or("axis", -1), input.rank())?;
    let inner = &input.shape()[first..];
    let length: usize = inner.iter().product();
    let scale = broadcast(call.input(1)?, inner)?;
    let scale = floats(&scale)?;
    let epsilon = f64::from(call.float_or("epsilon", 1e-5));
    let mut result = floats(input)?.to_vec();
    for values in result.chunks_exact_mut(length.max(1)) {
        let squares: f64 = values.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let by = 1.0 / (squares / length as f64 + epsilon).sqrt();
        for (value, &own) in values.iter_mut().zip(scale) {
            *value = (f64::from(*value) * by * f64::from(own)) as f32;
        }
    }
    array(input.shape().to_vec(), Data::F32(result)).map(|a| vec![a])
}

/// `MeanVarianceNormalization`, along batch, height and width where nothing else is said.
pub(super) fn mean_variance(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let along = axes(call.node.ints("axes").unwrap_or(&[0, 2, 3]), input.rank())?;
    let mut shape = input.shape().to_vec();
    for &axis in &along {
        shape[axis] = 1;
    }
    let steps = strides(&shape);
    let list = |n: usize| {
        let step = if along.contains(&n) { 0 } else { steps[n] };
        (0..input.shape()[n]).map(|place| place * step).collect()
    };
    let lists: Vec<Vec<usize>> = (0..input.rank()).map(list).collect();
    let target = grid(&lists);
    let values = floats(input)?;
    let results: usize = shape.iter().product();
    let count = values.len() as f64 / results.max(1) as f64;
    let mean = |of: &dyn Fn(usize, f64) -> f64| {
        let mut sums = vec![0.0; results];
        for (&to, &value) in target.iter().zip(values) {
            sums[to] += of(to, f64::from(value)) / count;
        }
        sums
    };
    let means = mean(&|_, x| x);
    let variances = mean(&|to, x| (x - means[to]) * (x - means[to]));
    let pairs = target.iter().zip(values);
    let normal = |(&to, &x): (&usize, &f32)| {
        ((f64::from(x) - means[to]) / (variances[to].sqrt() + 1e-9)) as f32
    };
    array(
        input.shape().to_vec(),
        Data::F32(pairs.map(normal).collect()),
    )
    .map(|a| vec![a])
}
