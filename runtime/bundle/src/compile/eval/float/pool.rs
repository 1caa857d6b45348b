//! Pools: the mean or the largest of what a window sees, channel by channel.

use super::super::{Call, Outcome};
use super::window::Window;
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{array, effort, floats, size, volume};

/// Channels of all of the batch, and what lies in each.
fn planes(input: &Array) -> Result<(usize, &[usize]), String> {
    match input.shape() {
        [batch, channels, plane @ ..] if !plane.is_empty() => {
            Ok((batch.saturating_mul(*channels), plane))
        }
        shape => Err(format!(
            "it takes batch, channels and further axes, not {shape:?}"
        )),
    }
}

/// Windows of the node, shape of its result, and number of windows in a channel.
fn pooled(call: &Call<'_>, input: &Array) -> Result<(Window, Vec<usize>, usize), String> {
    let (channels, plane) = planes(input)?;
    let kernel = call
        .node
        .ints("kernel_shape")
        .ok_or("it has no kernel_shape")?;
    let kernel = kernel
        .iter()
        .map(|&n| size(n))
        .collect::<Result<Vec<_>, _>>()?;
    let window = Window::of(call, plane, &kernel)?;
    let shape = [&input.shape()[..2], &window.output()].concat();
    volume(&shape)?;
    let places = volume(&window.output())?;
    effort(&[channels, places, volume(&kernel)?])?;
    Ok((window, shape, places))
}

/// Padding counts as zeros only with `count_include_pad`.
pub(super) fn average(call: &Call<'_>) -> Outcome {
    let input = call.input(0)?;
    let (window, shape, places) = pooled(call, input)?;
    let (channels, plane) = planes(input)?;
    let (values, plane) = (floats(input)?, volume(plane)?);
    let padded = call.int_or("count_include_pad", 0) != 0;
    let mut result = vec![0.0f32; volume(&shape)?];
    let mut taps = Vec::new();
    for place in 0..places {
        window.taps(place, &mut taps);
        let count = if padded {
            window.covered(place)
        } else {
            taps.len()
        };
        if taps.is_empty() {
            return Err("a window sees nothing but padding".to_owned());
        }
        for channel in 0..channels {
            // In f32 and in order, as onnxruntime does it: averages of quantised values often
            // lie half-way between two steps, and this noise decides which one is next.
            let mut sum = 0.0f32;
            for &(_, at) in &taps {
                sum += values[channel * plane + at];
            }
            result[channel * places + place] = sum / count as f32;
        }
    }
    array(shape, Data::F32(result)).map(|a| vec![a])
}

fn largest<T: Copy + PartialOrd>(
    values: &[T],
    plane: usize,
    channels: usize,
    window: &Window,
    places: usize,
) -> Result<Vec<T>, String> {
    let mut by_place = Vec::with_capacity(channels * places);
    let mut taps = Vec::new();
    for place in 0..places {
        window.taps(place, &mut taps);
        let (_, first) = *taps.first().ok_or("a window sees nothing but padding")?;
        for channel in 0..channels {
            let values = &values[channel * plane..(channel + 1) * plane];
            let mut most = values[first];
            for &(_, at) in &taps {
                if values[at] > most {
                    most = values[at];
                }
            }
            by_place.push(most);
        }
    }
    let mut by_channel = Vec::with_capacity(by_place.len());
    for channel in 0..channels {
        by_channel.extend((0..places).map(|place| by_place[place * channels + channel]));
    }
    Ok(by_channel)
}

/// Of floats and of the integers that quantised values are.
pub(super) fn maximum(call: &Call<'_>) -> Outcome {
    if call.node.outputs.get(1).is_some_and(Option::is_some) {
        return Err("the reference does not tell where the largest lie".to_owned());
    }
    let input = call.input(0)?;
    let (window, shape, places) = pooled(call, input)?;
    let (channels, plane) = planes(input)?;
    let plane = volume(plane)?;
    let data = match input.data() {
        Data::F32(v) => Data::F32(largest(v, plane, channels, &window, places)?),
        Data::F64(v) => Data::F64(largest(v, plane, channels, &window, places)?),
        Data::I8(v) => Data::I8(largest(v, plane, channels, &window, places)?),
        Data::U8(v) => Data::U8(largest(v, plane, channels, &window, places)?),
        _ => return Err(format!("it does not take {}", input.element())),
    };
    array(shape, data).map(|a| vec![a])
}

/// Every channel by a function of its elements.
fn whole(call: &Call<'_>, of: impl Fn(&[f32]) -> f32) -> Outcome {
    let input = call.input(0)?;
    let (_, plane) = planes(input)?;
    let values = floats(input)?;
    let mut shape = input.shape().to_vec();
    shape[2..].fill(1);
    let length = volume(plane)?;
    if length == 0 {
        return Err("there is nothing in its channels".to_owned());
    }
    let result = values.chunks_exact(length).map(of).collect();
    array(shape, Data::F32(result)).map(|a| vec![a])
}

pub(super) fn global_average(call: &Call<'_>) -> Outcome {
    whole(call, |values| {
        let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
        (sum / values.len() as f64) as f32
    })
}

pub(super) fn global_maximum(call: &Call<'_>) -> Outcome {
    whole(call, |values| {
        values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    })
}
