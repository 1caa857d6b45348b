//! Means of quantised values, for exact numerics.
//!
//! Means of integers lie on a half of a step quite often, and the last bits of an f32 decide
//! where these go. onnxruntime takes the mean over a whole image of unsigned bytes from the
//! integers, and that of a window from real values, one after the other; it divides both by
//! their number. tract multiplies by the rounded inverse, which is exact for powers of two
//! alone: here it sums, and a true division follows.

use super::super::array::{Array, ElementType};
use super::super::graph::{Attribute, Node, ValueId};
use super::value::{Held, Lowering, Scaled};

/// Images of more elements may sum to more than an f32 counts.
const LARGEST_IMAGE: i64 = (1 << 24) / 255;

impl Lowering<'_> {
    /// Takes the mean over a whole image of unsigned steps; whether `node` was that. The sum of
    /// integers is exact, and so is what lies on a half of a step after one true division.
    pub(super) fn integer_mean(&mut self, node: &Node, held: &Scaled) -> bool {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return false;
        };
        let Some(image) = self.whole_image(node, x).filter(|_| self.is_unsigned(x)) else {
            return false;
        };
        let count = image.iter().product::<i64>();
        if !self.is_exact() || !held.steps.whole || !(1..=LARGEST_IMAGE).contains(&count) {
            return false;
        }
        let axes = (2..2 + image.len() as i64).collect();
        let name = self.source_name(y);
        let axes = self
            .out
            .add_constant(&format!("{name}/axes"), Array::indices(axes));
        let sum = self.emit("ReduceSum", y, &[held.t, axes]);
        let count = self.scalar(count as f32);
        let t = self.quotient(y, sum, count);
        self.hold(y, Held::Scaled(Scaled::new(t, held.k)));
        true
    }

    /// Sizes of the image that `node` takes one mean of, if it is the whole one.
    fn whole_image(&self, node: &Node, x: ValueId) -> Option<Vec<i64>> {
        let image = self.image(x)?;
        let whole = node.op == "GlobalAveragePool" || one_window(node) == Some(&image[..]);
        whole.then_some(image)
    }

    fn is_unsigned(&self, x: ValueId) -> bool {
        let zero = self.zero_of(x);
        zero.is_some_and(|z| z.element() == ElementType::U8)
    }

    /// Takes the mean of the one window that `node` has; whether it was that. The window grows
    /// to powers of two by zeros that count, so that what the engine multiplies by is exact.
    pub(super) fn window_mean(&mut self, node: &Node) -> bool {
        let (Some(x), Some(y)) = (node.input(0), node.output()) else {
            return false;
        };
        let (Some(image), Some(window)) = (self.image(x), one_window(node)) else {
            return false;
        };
        let strides = node.ints("strides").unwrap_or_default();
        let once = |(axis, (size, taps)): (usize, (&i64, &i64))| {
            (0..strides.get(axis).copied().unwrap_or(1)).contains(&(size - taps))
        };
        let count: i64 = window.iter().product();
        let one = image.len() == window.len()
            && image.iter().zip(window).enumerate().all(once)
            && (1..=LARGEST_IMAGE).contains(&count);
        if !one || count.count_ones() == 1 {
            return false;
        }
        let name = self.source_name(y);
        let mut t = self.real(x);
        if image != window {
            let axes: Vec<i64> = (2..2 + window.len() as i64).collect();
            let cut = [vec![0; window.len()], window.to_vec(), axes];
            let mut inputs = vec![t];
            for (part, of) in cut.into_iter().zip(["starts", "ends", "axes"]) {
                let part = Array::indices(part);
                inputs.push(self.out.add_constant(&format!("{name}/{of}"), part));
            }
            t = self.emit("Slice", y, &inputs);
        }
        let power = |taps: &i64| taps.unsigned_abs().next_power_of_two().cast_signed();
        let grown: Vec<i64> = window.iter().map(power).collect();
        let mut pads = vec![0; window.len()];
        pads.extend(grown.iter().zip(window).map(|(grown, taps)| grown - taps));
        let mean = self.out.add_value(&format!("{name}/mean"));
        let total = grown.iter().product::<i64>() as f32;
        self.push(
            Node::new(&name, "AveragePool", &[t], mean)
                .with("kernel_shape", Attribute::Ints(grown))
                .with("pads", Attribute::Ints(pads))
                .with("count_include_pad", Attribute::Int(1)),
        );
        let sum = self.times(y, mean, total);
        let count = self.scalar(count as f32);
        let t = self.quotient(y, sum, count);
        self.hold(y, Held::Scaled(Scaled::new(t, 1.0)));
        true
    }

    /// Sizes of all axes behind batch and channels.
    fn image(&self, x: ValueId) -> Option<Vec<i64>> {
        let shape = self.source.value(x).shape.as_deref()?.get(2..)?;
        let size = |axis: &Option<usize>| axis.and_then(|n| i64::try_from(n).ok());
        shape.iter().map(size).collect()
    }
}

/// The window of an AveragePool without padding, gaps or rounding up.
fn one_window(node: &Node) -> Option<&[i64]> {
    let all = |name: &str, plain: i64| {
        let values = node.ints(name).unwrap_or_default();
        values.iter().all(|n| *n == plain)
    };
    let automatic = node.text("auto_pad").is_some_and(|p| p.starts_with("SAME"));
    let plain = all("pads", 0) && all("dilations", 1) && node.int("ceil_mode").unwrap_or(0) == 0;
    let window = node.ints("kernel_shape")?;
    let positive = window.iter().all(|taps| *taps > 0);
    (node.op == "AveragePool" && plain && positive && !automatic).then_some(window)
}
