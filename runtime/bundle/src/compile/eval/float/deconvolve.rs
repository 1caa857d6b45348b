//! `ConvTranspose`: every element of the input spreads its kernel over the result.

use super::super::{Call, Outcome};
use super::convolve::bias;
use super::window::{Side, Told, Window};
use crate::compile::array::Data;
use crate::compile::eval::layout::argument::{array, effort, floats, size, volume};

/// The side of the convolution that leads from the result back to the input.
fn side(
    call: &Call<'_>,
    told: &Told,
    input: &[usize],
    kernel: &[usize],
    axis: usize,
) -> Result<Side, String> {
    let axes = input.len();
    let entry = |name: &str| match call.node.ints(name) {
        Some(list) if list.len() < axes => Err(format!("{name} {list:?} do not fit {axes} axes")),
        // A shape may be told with batch and channels.
        Some(list) => size(list[list.len() - axes + axis]).map(Some),
        None => Ok(None),
    };
    let mut side = Side {
        input: 0,
        kernel: kernel[axis],
        stride: told.strides[axis],
        dilation: told.dilations[axis],
        before: told.pads[axis],
        after: told.pads[axes + axis],
        output: input[axis],
    };
    let more = entry("output_padding")?.unwrap_or(0);
    let mode = call.node.text("auto_pad").unwrap_or("NOTSET");
    let too_large = || "its result is too large".to_owned();
    let spread = input[axis]
        .checked_sub(1)
        .and_then(|n| n.checked_mul(side.stride))
        .and_then(|n| n.checked_add(side.span().ok()?))
        .and_then(|n| n.checked_add(more))
        .ok_or_else(too_large)?;
    let same = mode.starts_with("SAME");
    let wanted = match entry("output_shape")? {
        None if same => Some(input[axis].checked_mul(side.stride).ok_or_else(too_large)?),
        wanted => wanted,
    };
    if mode == "VALID" {
        (side.before, side.after) = (0, 0);
    }
    side.input = match wanted {
        Some(wanted) => {
            let cut = spread.saturating_sub(wanted);
            side.before = if mode == "SAME_UPPER" {
                cut / 2
            } else {
                cut - cut / 2
            };
            wanted
        }
        None => spread
            .checked_sub(side.before + side.after)
            .ok_or("its pads leave nothing")?,
    };
    Ok(side)
}

pub(super) fn conv_transpose(call: &Call<'_>) -> Outcome {
    let (input, weights) = (call.input(0)?, call.input(1)?);
    let (&[batch, channels, ref plane @ ..], &[depth, share, ref kernel @ ..]) =
        (input.shape(), weights.shape())
    else {
        return Err("it takes batch, channels and further axes".to_owned());
    };
    let groups = size(call.int_or("group", 1))?;
    if plane.is_empty() || plane.len() != kernel.len() || depth != channels {
        return Err(format!(
            "{:?} does not fit weights {:?}",
            input.shape(),
            weights.shape()
        ));
    }
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!("{channels} channels are not {groups} groups"));
    }
    let told = Told::of(call, plane.len())?;
    let sides = (0..plane.len()).map(|axis| side(call, &told, plane, kernel, axis));
    let window = Window {
        sides: sides.collect::<Result<Vec<_>, _>>()?,
    };
    let outputs = share.checked_mul(groups).ok_or("its result is too large")?;
    let mut shape = vec![batch, outputs];
    shape.extend(window.sides.iter().map(|s| s.input));
    let mut sums = vec![0.0f64; volume(&shape)?];
    let (taps, from, to) = (volume(kernel)?, volume(plane)?, volume(&shape[2..])?);
    effort(&[batch, channels, share, taps, from])?;
    let bias = bias(call, 2, outputs)?;
    let (x, w) = (floats(input)?, floats(weights)?);
    let each = channels / groups;
    let mut seen = Vec::new();
    for place in 0..from {
        window.taps(place, &mut seen);
        for row in 0..batch * channels {
            let value = f64::from(x[row * from + place]);
            let (batch, channel) = (row / channels, row % channels);
            for n in 0..share {
                let output = batch * outputs + channel / each * share + n;
                let kernel = (channel * share + n) * taps;
                for &(tap, at) in &seen {
                    sums[output * to + at] += value * f64::from(w[kernel + tap]);
                }
            }
        }
    }
    let own = |n: usize| bias.map_or(0.0, |b| f64::from(b[n / to.max(1) % outputs.max(1)]));
    let result = sums
        .iter()
        .enumerate()
        .map(|(n, sum)| (sum + own(n)) as f32);
    array(shape, Data::F32(result.collect())).map(|a| vec![a])
}
