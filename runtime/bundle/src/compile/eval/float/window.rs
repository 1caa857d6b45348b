//! The windows that convolutions and pools lay over an input, along any number of axes.

use crate::compile::eval::Call;
use crate::compile::eval::layout::argument::{size, volume};

/// A window along one axis.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile::eval) struct Side {
    /// Length of the input.
    pub(in crate::compile::eval) input: usize,
    /// Number of taps.
    pub(in crate::compile::eval) kernel: usize,
    pub(in crate::compile::eval) stride: usize,
    pub(in crate::compile::eval) dilation: usize,
    /// Padding in front and behind.
    pub(in crate::compile::eval) before: usize,
    pub(in crate::compile::eval) after: usize,
    /// Number of windows.
    pub(in crate::compile::eval) output: usize,
}

/// A window along all spatial axes.
#[derive(Clone, Debug)]
pub(in crate::compile::eval) struct Window {
    pub(in crate::compile::eval) sides: Vec<Side>,
}

/// What a node says of its windows, one entry for each spatial axis.
pub(in crate::compile::eval) struct Told {
    pub(in crate::compile::eval) strides: Vec<usize>,
    pub(in crate::compile::eval) dilations: Vec<usize>,
    /// In front of all axes, then behind all of them.
    pub(in crate::compile::eval) pads: Vec<usize>,
}

impl Told {
    pub(in crate::compile::eval) fn of(call: &Call<'_>, axes: usize) -> Result<Self, String> {
        let list = |name: &str, length: usize, default: usize| {
            let Some(list) = call.node.ints(name) else {
                return Ok(vec![default; length]);
            };
            if list.len() != length {
                return Err(format!("{name} {list:?} do not fit {axes} axes"));
            }
            list.iter().map(|&n| size(n)).collect::<Result<Vec<_>, _>>()
        };
        let told = Self {
            strides: list("strides", axes, 1)?,
            dilations: list("dilations", axes, 1)?,
            pads: list("pads", 2 * axes, 0)?,
        };
        let steps = told.strides.iter().chain(&told.dilations);
        if steps.clone().any(|&n| n == 0) {
            return Err("a stride or dilation of 0 leads nowhere".to_owned());
        }
        // Far beyond every length there is, and sums of a few cannot overflow.
        if steps.chain(&told.pads).any(|&n| n > 1 << 32) {
            return Err("its windows are too large".to_owned());
        }
        Ok(told)
    }
}

impl Window {
    /// The windows of a node over an input of these lengths. `kernel` is that of the weights
    /// or of the node; both have one entry for each axis.
    pub(in crate::compile::eval) fn of(
        call: &Call<'_>,
        input: &[usize],
        kernel: &[usize],
    ) -> Result<Self, String> {
        let axes = input.len();
        if kernel.len() != axes || axes == 0 {
            return Err(format!("a kernel {kernel:?} does not fit {axes} axes"));
        }
        let told = Told::of(call, axes)?;
        let mode = call.node.text("auto_pad").unwrap_or("NOTSET");
        let ceil = call.int_or("ceil_mode", 0) != 0;
        let mut sides = Vec::with_capacity(axes);
        for axis in 0..axes {
            let side = Side {
                input: input[axis],
                kernel: kernel[axis],
                stride: told.strides[axis],
                dilation: told.dilations[axis],
                before: told.pads[axis],
                after: told.pads[axes + axis],
                output: 0,
            };
            sides.push(side.placed(mode, ceil)?);
        }
        let outputs: Vec<usize> = sides.iter().map(|s| s.output).collect();
        volume(&outputs)?;
        volume(kernel)?;
        Ok(Self { sides })
    }

    /// Lengths of the result.
    pub(in crate::compile::eval) fn output(&self) -> Vec<usize> {
        self.sides.iter().map(|s| s.output).collect()
    }

    /// Puts into `taps`, of window number `place` of the result, each tap's number in the
    /// kernel and the offset of the element it sees; taps on padding are left out.
    pub(in crate::compile::eval) fn taps(&self, place: usize, taps: &mut Vec<(usize, usize)>) {
        taps.clear();
        taps.push((0, 0));
        let mut rest = place;
        // From the last axis to the first, so that the rest of `place` tells each one's.
        let (mut kernel, mut input) = (1, 1);
        for side in self.sides.iter().rev() {
            let start = rest % side.output * side.stride;
            rest /= side.output;
            let known = taps.len();
            for tap in 0..side.kernel {
                let at = start + tap * side.dilation;
                if at < side.before || at - side.before >= side.input {
                    continue;
                }
                let (tap, at) = (tap * kernel, (at - side.before) * input);
                for n in 0..known {
                    taps.push((taps[n].0 + tap, taps[n].1 + at));
                }
            }
            taps.drain(..known);
            kernel *= side.kernel;
            input *= side.input;
        }
    }

    /// Number of taps of window number `place` that lie on the input or its padding, but not
    /// behind both, where `ceil_mode` may put some.
    pub(in crate::compile::eval) fn covered(&self, place: usize) -> usize {
        let mut rest = place;
        let mut all = 1;
        for side in self.sides.iter().rev() {
            let start = rest % side.output * side.stride;
            rest /= side.output;
            let end = side.before + side.input + side.after;
            let room = end.saturating_sub(start).div_ceil(side.dilation);
            all *= room.min(side.kernel);
        }
        all
    }
}

impl Side {
    /// From the first tap to behind the last one.
    pub(in crate::compile::eval) fn span(&self) -> Result<usize, String> {
        self.kernel
            .checked_sub(1)
            .and_then(|n| n.checked_mul(self.dilation))
            .and_then(|n| n.checked_add(1))
            .filter(|&n| n < 1 << 40)
            .ok_or_else(|| format!("a kernel of {} is none", self.kernel))
    }

    /// With padding and number of windows by the node's mode.
    fn placed(mut self, mode: &str, ceil: bool) -> Result<Self, String> {
        let span = self.span()?;
        if self.input > 1 << 40 {
            return Err("its input is too large".to_owned());
        }
        match mode {
            "NOTSET" | "" => {}
            "VALID" => (self.before, self.after) = (0, 0),
            "SAME_UPPER" | "SAME_LOWER" => {
                self.output = self.input.div_ceil(self.stride);
                let reach = self.output.saturating_sub(1) * self.stride + span;
                let pad = reach.saturating_sub(self.input);
                (self.before, self.after) = match mode {
                    "SAME_UPPER" => (pad / 2, pad - pad / 2),
                    _ => (pad - pad / 2, pad / 2),
                };
                return Ok(self);
            }
            _ => return Err(format!("there is no auto_pad \"{mode}\"")),
        }
        let whole = self.before + self.input + self.after;
        let room = whole
            .checked_sub(span)
            .ok_or_else(|| format!("a window of {span} is larger than the input"))?;
        self.output = match ceil {
            false => room / self.stride + 1,
            true => room.div_ceil(self.stride) + 1,
        };
        // No window may start behind the input and the padding in front of it.
        if ceil && (self.output - 1) * self.stride >= self.before + self.input {
            self.output -= 1;
        }
        Ok(self)
    }
}
