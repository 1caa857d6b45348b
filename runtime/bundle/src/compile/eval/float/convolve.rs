//! Convolution of any number of axes, for elements of any type.
//!
//! What a window sees is gathered once and multiplied with the weights of every channel that
//! reads it. The inner loops are plain ones over slices: they must run fast unoptimised.

use super::super::{Call, Outcome};
use super::window::Window;
use crate::compile::array::{Array, Data};
use crate::compile::eval::layout::argument::{array, effort, floats, size, volume};

/// A convolution whose sizes fit together.
pub(in crate::compile::eval) struct Convolution {
    window: Window,
    /// Batch, channels of the input and of the result, groups.
    batch: usize,
    channels: usize,
    outputs: usize,
    groups: usize,
    /// Taps of a kernel, elements of a channel of the input and of the result.
    taps: usize,
    plane: usize,
    places: usize,
}

impl Convolution {
    /// What `call` means for an input and weights of these shapes.
    pub(in crate::compile::eval) fn of(
        call: &Call<'_>,
        input: &[usize],
        weights: &[usize],
    ) -> Result<Self, String> {
        let (&[batch, channels, ref plane @ ..], &[outputs, depth, ref kernel @ ..]) =
            (input, weights)
        else {
            return Err(format!("it takes no {input:?} with weights {weights:?}"));
        };
        if let Some(told) = call.node.ints("kernel_shape") {
            let told = told
                .iter()
                .map(|&n| size(n))
                .collect::<Result<Vec<_>, _>>()?;
            if told != kernel {
                return Err(format!(
                    "its kernel is {told:?}, its weights say {kernel:?}"
                ));
            }
        }
        let groups = size(call.int_or("group", 1))?;
        let fits = groups > 0
            && depth.checked_mul(groups) == Some(channels)
            && outputs.is_multiple_of(groups);
        if !fits {
            return Err(format!(
                "{channels} channels in {groups} groups do not fit weights {weights:?}"
            ));
        }
        let window = Window::of(call, plane, kernel)?;
        let this = Self {
            taps: volume(kernel)?,
            plane: volume(plane)?,
            places: volume(&window.output())?,
            window,
            batch,
            channels,
            outputs,
            groups,
        };
        volume(&this.shape())?;
        volume(weights)?;
        volume(input)?;
        effort(&[batch, outputs, this.places, depth, this.taps])?;
        Ok(this)
    }

    /// Shape of the result.
    pub(in crate::compile::eval) fn shape(&self) -> Vec<usize> {
        [vec![self.batch, self.outputs], self.window.output()].concat()
    }

    /// Calls `put` with the offset of every element of the result, its channel, and the
    /// product of what its window sees with that channel's weights. Padding is seen as
    /// `blank`.
    pub(in crate::compile::eval) fn run<T: Copy, R>(
        &self,
        input: &[T],
        weights: &[T],
        blank: T,
        product: impl Fn(&[T], &[T]) -> R,
        mut put: impl FnMut(usize, usize, R),
    ) {
        let depth = self.channels / self.groups;
        let share = self.outputs / self.groups;
        let length = depth * self.taps;
        let mut seen = vec![blank; length];
        let mut taps = Vec::new();
        for place in 0..self.places {
            self.window.taps(place, &mut taps);
            // The same taps are on padding for all channels of this place.
            seen.fill(blank);
            for batch in 0..self.batch {
                for group in 0..self.groups {
                    let first = (batch * self.channels + group * depth) * self.plane;
                    gather(
                        &mut seen,
                        self.taps,
                        &input[first..],
                        self.plane,
                        depth,
                        &taps,
                    );
                    for channel in group * share..(group + 1) * share {
                        let row = &weights[channel * length..(channel + 1) * length];
                        let offset = (batch * self.outputs + channel) * self.places + place;
                        put(offset, channel, product(&seen, row));
                    }
                }
            }
        }
    }
}

/// Lays what the taps see in each of `depth` channels behind one another.
fn gather<T: Copy>(
    seen: &mut [T],
    kernel: usize,
    input: &[T],
    plane: usize,
    depth: usize,
    taps: &[(usize, usize)],
) {
    let mut channel = 0;
    while channel < depth {
        let (to, from) = (channel * kernel, channel * plane);
        let mut n = 0;
        while n < taps.len() {
            let (tap, at) = taps[n];
            seen[to + tap] = input[from + at];
            n += 1;
        }
        channel += 1;
    }
}

/// The sum of products, which `f64` holds exactly enough. Eight at once, as arrays, spare an
/// unoptimised build most of its checks.
pub(in crate::compile::eval) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let length = a.len().min(b.len());
    let mut sum = 0.0;
    let mut n = 0;
    if length >= 32 {
        let (a, b) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
        let mut chunk = 0;
        while n + 8 <= length {
            let (a, b) = (&a[chunk], &b[chunk]);
            sum += (a[0] as f64 * b[0] as f64 + a[1] as f64 * b[1] as f64)
                + (a[2] as f64 * b[2] as f64 + a[3] as f64 * b[3] as f64)
                + (a[4] as f64 * b[4] as f64 + a[5] as f64 * b[5] as f64)
                + (a[6] as f64 * b[6] as f64 + a[7] as f64 * b[7] as f64);
            chunk += 1;
            n += 8;
        }
    }
    while n < length {
        sum += a[n] as f64 * b[n] as f64;
        n += 1;
    }
    sum
}

/// A bias of each of `channels`, or none at all.
pub(super) fn bias<'a>(
    call: &Call<'a>,
    place: usize,
    channels: usize,
) -> Result<Option<&'a [f32]>, String> {
    let Some(bias) = call.optional(place) else {
        return Ok(None);
    };
    if bias.len() != channels {
        return Err(format!("{} biases are not {channels}", bias.len()));
    }
    floats(bias).map(Some)
}

pub(super) fn conv(call: &Call<'_>) -> Outcome {
    let (input, weights): (&Array, &Array) = (call.input(0)?, call.input(1)?);
    let convolution = Convolution::of(call, input.shape(), weights.shape())?;
    let bias = bias(call, 2, convolution.outputs)?;
    let shape = convolution.shape();
    let mut result = vec![0.0f32; volume(&shape)?];
    convolution.run(
        floats(input)?,
        floats(weights)?,
        0.0,
        dot,
        |offset, channel, sum| {
            let own = bias.map_or(0.0, |b| f64::from(b[channel]));
            result[offset] = (sum + own) as f32;
        },
    );
    array(shape, Data::F32(result)).map(|a| vec![a])
}
