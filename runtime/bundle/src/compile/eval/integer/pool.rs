//! Quantised averages and softmax.

use super::parameter::{Single, Target, integers};
use super::{Call, Outcome};
use crate::compile::array::Array;
use crate::compile::eval::float::window::Window;
use crate::compile::eval::layout::argument::{axes, axis, effort, size, volume};

/// `QLinearAveragePool`.
pub(super) fn average(call: &Call<'_>) -> Outcome {
    let pool = Pool::of(call)?;
    let kernel = call.node.ints("kernel_shape").ok_or("it has no kernel")?;
    let kernel: Vec<usize> = kernel.iter().map(|n| size(*n)).collect::<Result<_, _>>()?;
    let window = Window::of(call, &pool.spatial, &kernel)?;
    effort(&[pool.q.len(), volume(&kernel)?])?;
    let with_pads = call.node.int("count_include_pad").unwrap_or(0) != 0;
    pool.averaged(&window.output(), |place, taps| {
        window.taps(place, taps);
        match with_pads {
            true => window.covered(place),
            false => taps.len(),
        }
    })
}

/// `QLinearGlobalAveragePool`.
pub(super) fn global_average(call: &Call<'_>) -> Outcome {
    let pool = Pool::of(call)?;
    let plane: usize = pool.spatial.iter().product();
    let output = vec![1; pool.spatial.len()];
    pool.averaged(&output, |_, taps| {
        *taps = (0..plane).map(|n| (n, n)).collect();
        plane
    })
}

/// `QLinearReduceMean` over the axes of its attribute, or over all.
pub(super) fn reduce_mean(call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let at = Single::of(call, 1, 2)?;
    let target = Target::of(call, 3, 4, x.element())?;
    let mut reduced = vec![false; x.rank()];
    match call.node.ints("axes") {
        None => reduced.fill(true),
        Some(listed) => {
            for axis in axes(listed, x.rank())? {
                reduced[axis] = true;
            }
        }
    }
    // The place in the result of each element, axis by axis.
    let mut places = vec![0usize];
    let mut kept = Vec::with_capacity(x.rank());
    for (length, reduced) in x.shape().iter().zip(&reduced) {
        let own = if *reduced { 1 } else { *length };
        kept.push(own);
        places = places
            .iter()
            .flat_map(|p| (0..*length).map(move |n| p * own + if own == 1 { 0 } else { n }))
            .collect();
    }
    let size: usize = kept.iter().product();
    let mut sums = vec![0i64; size];
    for (place, q) in places.iter().zip(integers(x)?) {
        sums[*place] += i64::from(q) - i64::from(at.zero);
    }
    let each = (x.len() / size.max(1)).max(1) as f32;
    let values: Vec<i32> = sums
        .iter()
        .map(|sum| target.quantised(*sum as f32 * at.scale / each))
        .collect();
    if call.node.int("keepdims").unwrap_or(1) == 0 {
        let axes = kept.iter().zip(&reduced);
        kept = axes.filter(|(_, r)| !**r).map(|(n, _)| *n).collect();
    }
    target.array(kept, &values)
}

/// `QLinearSoftmax`: before operator set 13 over all axes from `axis` on, later over it alone.
pub(super) fn softmax(call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let at = Single::of(call, 1, 2)?;
    let target = Target::of(call, 3, 4, x.element())?;
    let axis = axis(call.node.int("axis").unwrap_or(-1), x.rank())?;
    let (length, inner) = match call.node.int("opset") {
        Some(..13) => (x.shape()[axis..].iter().product(), 1),
        _ => (x.shape()[axis], x.shape()[axis + 1..].iter().product()),
    };
    let q = integers(x)?;
    let mut values = vec![0; q.len()];
    let row: usize = length * inner;
    for start in (0..q.len()).step_by(row.max(1)) {
        for offset in 0..inner {
            let line = || (0..length).map(move |n| start + offset + n * inner);
            let most = line().map(|n| q[n]).max().unwrap_or(0);
            let power = |n: usize| {
                let below = f64::from(q[n]) - f64::from(most);
                libm::exp(f64::from(at.scale) * below)
            };
            let sum: f64 = line().map(power).sum();
            for n in line() {
                values[n] = target.quantised((power(n) / sum) as f32);
            }
        }
    }
    target.array(x.shape().to_vec(), &values)
}

/// The input of a pool, channels before the spatial axes or behind them.
struct Pool {
    q: Vec<i32>,
    at: Single,
    target: Target,
    batch: usize,
    channels: usize,
    spatial: Vec<usize>,
    last: bool,
}

impl Pool {
    fn of(call: &Call<'_>) -> Result<Self, String> {
        let x: &Array = call.input(0)?;
        let last = call.node.int("channels_last").unwrap_or(0) != 0;
        let &[batch, ref rest @ ..] = x.shape() else {
            return Err("a pool takes at least two axes".to_owned());
        };
        let parts = match last {
            true => rest.split_last(),
            false => rest.split_first(),
        };
        let (channels, spatial) = parts.ok_or("a pool takes at least two axes")?;
        Ok(Self {
            q: integers(x)?,
            at: Single::of(call, 1, 2)?,
            target: Target::of(call, 3, 4, x.element())?,
            batch,
            channels: *channels,
            spatial: spatial.to_vec(),
            last,
        })
    }

    /// Averages over windows: `taps` puts those of a place into its list, each with the place
    /// it reads, and gives the number to divide by.
    fn averaged(
        &self,
        output: &[usize],
        mut taps: impl FnMut(usize, &mut Vec<(usize, usize)>) -> usize,
    ) -> Outcome {
        let mut shape = vec![self.batch];
        match self.last {
            true => {
                shape.extend(output);
                shape.push(self.channels);
            }
            false => {
                shape.push(self.channels);
                shape.extend(output);
            }
        }
        let mut values = vec![0; volume(&shape)?];
        let (from, to) = (self.spatial.iter().product(), output.iter().product());
        // Where an element of a channel lies among `plane` elements for each channel.
        let at = |image: usize, channel: usize, plane: usize, n: usize| match self.last {
            true => (image * plane + n) * self.channels + channel,
            false => (image * self.channels + channel) * plane + n,
        };
        let mut read = Vec::new();
        for place in 0..to {
            let count = taps(place, &mut read).max(1) as f32;
            for image in 0..self.batch {
                for channel in 0..self.channels {
                    let all = read
                        .iter()
                        .map(|(_, n)| self.q[at(image, channel, from, *n)]);
                    let sum: i64 = all.map(|q| i64::from(q) - i64::from(self.at.zero)).sum();
                    values[at(image, channel, to, place)] =
                        self.target.quantised(sum as f32 * self.at.scale / count);
                }
            }
        }
        self.target.array(shape, &values)
    }
}
