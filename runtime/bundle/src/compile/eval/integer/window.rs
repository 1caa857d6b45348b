//! The windows of convolutions and pools: which elements a tap of the kernel joins.
//!
//! For any number of spatial axes, with ONNX's pads, strides, dilations, `auto_pad` and
//! `ceil_mode`.

use crate::compile::graph::Node;

/// No result is larger than this; what asks for more is refused before memory is taken.
const LARGEST: usize = 1 << 28;

/// Geometry of a sliding window over some spatial axes.
pub(super) struct Window {
    pub(super) input: Vec<usize>,
    pub(super) output: Vec<usize>,
    pub(super) kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    begin: Vec<usize>,
    end: Vec<usize>,
}

impl Window {
    /// The window that `node`'s attributes describe.
    pub(super) fn of(node: &Node, input: &[usize], kernel: &[usize]) -> Result<Self, String> {
        let axes = input.len();
        let strides = positive(node, "strides", axes)?;
        let dilations = positive(node, "dilations", axes)?;
        let pads = match node.ints("pads") {
            None => vec![0; 2 * axes],
            Some(pads) => sizes(pads)?,
        };
        if pads.len() != 2 * axes || kernel.len() != axes || kernel.contains(&0) {
            return Err("kernel or pads do not fit the input's axes".to_owned());
        }
        let (begin, end) = pads.split_at(axes);
        let mut window = Self {
            input: input.to_vec(),
            output: Vec::with_capacity(axes),
            kernel: kernel.to_vec(),
            strides,
            dilations,
            begin: begin.to_vec(),
            end: end.to_vec(),
        };
        let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
        for axis in 0..axes {
            window.measure(axis, node.text("auto_pad").unwrap_or("NOTSET"), ceil)?;
        }
        let mut places = window.output.iter().chain(&window.kernel);
        let product = places.try_fold(1usize, |n, &d| n.checked_mul(d));
        match product {
            Some(n) if n <= LARGEST => Ok(window),
            _ => Err("the result is too large".to_owned()),
        }
    }

    /// Finds pads and output size of one axis.
    fn measure(&mut self, axis: usize, auto: &str, ceil: bool) -> Result<(), String> {
        let large = || "a window is too large".to_owned();
        let (input, stride) = (self.input[axis], self.strides[axis]);
        let reach = (self.kernel[axis] - 1).checked_mul(self.dilations[axis]);
        let reach = reach.and_then(|r| r.checked_add(1)).ok_or_else(large)?;
        match auto {
            "NOTSET" | "" => {}
            "VALID" => (self.begin[axis], self.end[axis]) = (0, 0),
            "SAME_UPPER" | "SAME_LOWER" => {
                let output = input.div_ceil(stride);
                let needed = output.saturating_sub(1).checked_mul(stride);
                let needed = needed
                    .and_then(|n| n.checked_add(reach))
                    .ok_or_else(large)?;
                let total = needed.saturating_sub(input);
                let (less, more) = (total / 2, total - total / 2);
                (self.begin[axis], self.end[axis]) = match auto {
                    "SAME_UPPER" => (less, more),
                    _ => (more, less),
                };
                self.output.push(output);
                return Ok(());
            }
            other => return Err(format!("there is no auto_pad {other:?}")),
        }
        let padded = input
            .checked_add(self.begin[axis])
            .and_then(|n| n.checked_add(self.end[axis]))
            .ok_or_else(large)?;
        let room = padded
            .checked_sub(reach)
            .ok_or("the window is larger than the input")?;
        let mut output = match ceil {
            true => room.div_ceil(stride) + 1,
            false => room / stride + 1,
        };
        // No window starts in the pads at the end.
        if ceil && (output - 1).saturating_mul(stride) >= input + self.begin[axis] {
            output -= 1;
        }
        self.output.push(output);
        Ok(())
    }

    /// Number of places of the window.
    pub(super) fn outputs(&self) -> usize {
        self.output.iter().product()
    }

    /// Number of elements of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// For every place of the window that `tap` reads inside of the input: the place in the
    /// output and the one in the input.
    pub(super) fn pairs(&self, tap: usize) -> Vec<(usize, usize)> {
        let inside = |axis: usize, at: usize| {
            let from = at.checked_sub(self.begin[axis]);
            from.filter(|from| *from < self.input[axis])
        };
        self.places(tap, inside)
    }

    /// How many taps of each place count for an average with pads included.
    pub(super) fn counted_with_pads(&self) -> Vec<usize> {
        let mut counts = vec![0; self.outputs()];
        for tap in 0..self.taps() {
            let inside = |axis: usize, at: usize| {
                let padded = self.begin[axis] + self.input[axis] + self.end[axis];
                (at < padded).then_some(0)
            };
            for (output, _) in self.places(tap, inside) {
                counts[output] += 1;
            }
        }
        counts
    }

    /// Walks all outputs; `inside` gives an index from one into the padded axis.
    fn places(
        &self,
        tap: usize,
        inside: impl Fn(usize, usize) -> Option<usize>,
    ) -> Vec<(usize, usize)> {
        let mut offsets = vec![0; self.kernel.len()];
        let mut rest = tap;
        for (axis, length) in self.kernel.iter().enumerate().rev() {
            offsets[axis] = rest % length * self.dilations[axis];
            rest /= length;
        }
        // Pairs of the leading axes, widened by one axis at a time.
        let mut pairs = vec![(0, 0)];
        for (axis, offset) in offsets.into_iter().enumerate() {
            let mut wider = Vec::with_capacity(pairs.len() * self.output[axis]);
            for (output, input) in pairs {
                for step in 0..self.output[axis] {
                    let at = step * self.strides[axis] + offset;
                    if let Some(from) = inside(axis, at) {
                        let output = output * self.output[axis] + step;
                        wider.push((output, input * self.input[axis] + from));
                    }
                }
            }
            pairs = wider;
        }
        pairs
    }
}

fn positive(node: &Node, name: &str, axes: usize) -> Result<Vec<usize>, String> {
    let values = match node.ints(name) {
        None => return Ok(vec![1; axes]),
        Some(values) => sizes(values)?,
    };
    match values.len() == axes && !values.contains(&0) {
        true => Ok(values),
        false => Err(format!("{name} do not fit the input's axes")),
    }
}

/// Sizes small enough that none of their sums overflows.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>, String> {
    let size = |v: &i64| usize::try_from(*v).ok().filter(|v| *v <= LARGEST);
    let all: Option<Vec<usize>> = values.iter().map(size).collect();
    all.ok_or_else(|| "a size is negative or too large".to_owned())
}
