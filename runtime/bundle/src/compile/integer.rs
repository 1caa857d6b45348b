//! The quantised model in integers alone: what an interpreter without floats inside needs.
//!
//! [`build`] makes it of a canonical graph by taking groups of DequantizeLinear, float
//! operators and QuantizeLinear together as one integer layer. Weights are 8-bit, biases and
//! sums 32-bit, and a sum becomes the next tensor's integer by
//! `clamp(round_half_even(sum as f32 * multiplier) + zero_point)`. Sums are proved not to
//! overflow when a model is built and again when it is decoded. [`IntegerModel::run`] computes
//! it plainly, as a second reference beside [`super::eval`].

mod build;
mod check;
mod flow;
mod layout;
mod linear;
mod node;
mod report;
mod run;
#[cfg(test)]
mod test;
mod window;

use serde::{Deserialize, Serialize};

pub(super) use build::build;

/// First byte of every encoded model.
const VERSION: u8 = 1;

/// The quantised model in integers alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntegerModel {
    tensors: Vec<QuantisedTensor>,
    layers: Vec<Layer>,
    output: usize,
    float_input: bool,
    float_output: bool,
}

/// What flows between layers. A real value is `scale * (integer - zero_point)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantisedTensor {
    /// The graph's name of it.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Length of each axis, channels second as in ONNX.
    pub shape: Vec<usize>,
    /// Size of one step.
    pub scale: f32,
    /// The integer of the real zero.
    pub zero_point: i32,
}

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// Signed 8-bit integers.
    I8,
    /// Unsigned 8-bit integers.
    U8,
    /// Real values; only the model's output may have them.
    F32,
}

/// One step of the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Name of the graph's node that it was made of, or of the first of several.
    pub name: String,
    /// Places in the tensors, in the operator's order.
    pub inputs: Vec<usize>,
    /// Place in the tensors of what it makes.
    pub output: usize,
    /// Least and largest integer that it makes, activation functions that only cut off
    /// included. Layers that move integers or look them up keep to the whole range.
    pub clamp: [i32; 2],
    /// What it computes.
    pub operator: Operator,
}

/// What a layer computes, in differences from the zero points of what it reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operator {
    /// Convolution over one or two spatial axes.
    Conv {
        /// Over the spatial axes.
        window: Window,
        /// Groups of channels.
        groups: usize,
        /// What the sums are made of, `[out, in / groups, height, width]`.
        linear: Linear,
    },
    /// The last axis times a constant matrix `[out, in]`.
    Dense(Linear),
    /// Matrix product of two activations over their last two axes.
    MatMul {
        /// From the sum to steps of the output.
        multiplier: f32,
    },
    /// Sum of two tensors, with broadcasting: `round_half_even(fixed + a * m + b * n)` of the
    /// integers themselves, where `fixed` is the output's zero point less
    /// `zero_a * m + zero_b * n`. This order is onnxruntime's; others differ near halves.
    Add {
        /// From each input's steps to steps of the output.
        multipliers: [f32; 2],
    },
    /// Product of two tensors, with broadcasting.
    Mul {
        /// From the product of steps to steps of the output.
        multiplier: f32,
    },
    /// Tensors one behind the other.
    Concat {
        /// Along this axis.
        axis: usize,
        /// From each input's steps to steps of the output.
        multipliers: Vec<f32>,
    },
    /// Mean of each window.
    AveragePool {
        /// Over the spatial axes.
        window: Window,
        /// Whether padding counts as elements.
        count_padding: bool,
        /// Of the input and of the output. Means lie halfway between two steps often, so that
        /// the order matters: real values are summed in `f32`, row by row, divided by their
        /// number and then by the output's scale, as onnxruntime does.
        scales: [f32; 2],
    },
    /// Mean over all axes from this one on, each of which becomes 1 in length.
    Mean {
        /// The first axis that is averaged over.
        axis: usize,
        /// From the mean to steps of the output.
        multiplier: f32,
    },
    /// Largest integer of each window; padding never counts.
    MaxPool(Window),
    /// Exponentials over their sum along an axis.
    Softmax {
        /// Along this axis.
        axis: usize,
        /// The exponential of an integer that is this far below the largest one.
        exponentials: Vec<f32>,
        /// From the quotient to steps of the output.
        multiplier: f32,
    },
    /// The output's integer for each of the 256 inputs, the least first, as bytes.
    Table(Vec<u8>),
    /// The real output for each of the 256 inputs, the least first.
    Values(Vec<f32>),
    /// A factor and a summand for each place along an axis.
    Scale {
        /// The axis.
        axis: usize,
        /// From the input's steps to steps of the output.
        multipliers: Vec<f32>,
        /// In steps of the output.
        offsets: Vec<f32>,
    },
    /// The same integers in another shape.
    Reshape,
    /// Axes in another order: the output's axis `n` is the input's axis at place `n` here.
    Transpose(Vec<usize>),
    /// Every `steps`-th element from `starts` on, for each axis.
    Slice {
        /// First element.
        starts: Vec<usize>,
        /// Distance to the next, at least 1.
        steps: Vec<usize>,
    },
    /// The input with a border of one integer.
    Pad {
        /// Width of the border before each axis; the output's shape says it behind.
        before: Vec<usize>,
        /// The integer.
        value: i32,
    },
}

/// How a window goes over height and width; one spatial axis is a width of height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Distance from window to window.
    pub strides: [usize; 2],
    /// Padding above, left, below, right.
    pub pads: [usize; 4],
    /// Distance from element to element inside the window.
    pub dilations: [usize; 2],
}

/// Constants of a weighted sum, one row of weights for each output channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Row-major, output channels first.
    pub weights: Weights,
    /// Starts each channel's sum.
    pub bias: Vec<i32>,
    /// From each channel's sum to steps of the output: the input's scale times the weights'
    /// over the output's.
    pub multipliers: Vec<f32>,
}

/// 8-bit weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Weights {
    /// With a zero point of 0.
    Signed(Vec<i8>),
    /// With any other zero point.
    Unsigned {
        /// The integers.
        values: Vec<u8>,
        /// The integer of the real zero.
        zero_point: u8,
    },
}

/// Why an integer model cannot be read or run.
#[derive(Debug, thiserror::Error)]
pub enum IntegerError {
    /// Bytes of another version of the format.
    #[error("integer model of format {0}, only format {VERSION} is known")]
    Version(u8),
    /// The bytes are no such model.
    #[error("the bytes are no integer model")]
    Encoding(#[source] postcard::Error),
    /// A layer does not fit what it reads or makes.
    #[error("the integer model is not consistent: {0}")]
    Invalid(String),
    /// The input is not what the model takes.
    #[error("the model takes {wanted}, not {got}")]
    Input {
        /// Type and shape wanted.
        wanted: String,
        /// Type and shape given.
        got: String,
    },
}

impl IntegerModel {
    /// What the model takes. Where [`Self::float_input`] holds, a caller gives real values,
    /// which become these integers first.
    pub fn input(&self) -> &QuantisedTensor {
        &self.tensors[0]
    }

    /// What the model gives. Where [`Self::float_output`] holds and these are integers, a
    /// caller gets the real values they stand for.
    pub fn output(&self) -> &QuantisedTensor {
        &self.tensors[self.output]
    }

    /// Whether a caller gives real values.
    pub fn float_input(&self) -> bool {
        self.float_input
    }

    /// Whether a caller gets real values.
    pub fn float_output(&self) -> bool {
        self.float_output
    }

    /// All tensors, the input first.
    pub fn tensors(&self) -> &[QuantisedTensor] {
        &self.tensors
    }

    /// All layers in the order of computation.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The bytes to store: one of the format's version, then postcard.
    ///
    /// # Errors
    /// [`IntegerError::Encoding`] when postcard fails, which it does for no model of here.
    pub fn encode(&self) -> Result<Vec<u8>, IntegerError> {
        postcard::to_extend(self, vec![VERSION]).map_err(IntegerError::Encoding)
    }

    /// Reads what [`Self::encode`] wrote and checks everything that running it relies on.
    ///
    /// # Errors
    /// [`IntegerError`] of bytes that are no model, or one that is not consistent.
    pub fn decode(bytes: &[u8]) -> Result<Self, IntegerError> {
        let (version, rest) = bytes
            .split_first()
            .ok_or(postcard::Error::DeserializeUnexpectedEnd)
            .map_err(IntegerError::Encoding)?;
        if *version != VERSION {
            return Err(IntegerError::Version(*version));
        }
        let (model, rest): (Self, _) =
            postcard::take_from_bytes(rest).map_err(IntegerError::Encoding)?;
        if !rest.is_empty() {
            return Err(IntegerError::Invalid("bytes follow it".to_owned()));
        }
        model.check().map_err(IntegerError::Invalid)?;
        Ok(model)
    }
}

impl Element {
    /// Least and largest integer; both 0 for real values.
    pub fn range(self) -> [i32; 2] {
        match self {
            Self::I8 => [-128, 127],
            Self::U8 => [0, 255],
            Self::F32 => [0, 0],
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F32 => 4,
        }
    }
}

impl QuantisedTensor {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer of a real value, as QuantizeLinear has it.
    fn quantise(&self, value: f32) -> i32 {
        let [low, high] = self.element.range();
        let steps = (value / self.scale).round_ties_even();
        let integer = (steps as i64).saturating_add(i64::from(self.zero_point));
        integer.clamp(low.into(), high.into()) as i32
    }
}

impl Weights {
    /// Number of weights.
    pub fn len(&self) -> usize {
        match self {
            Self::Signed(values) => values.len(),
            Self::Unsigned { values, .. } => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every weight less its zero point.
    fn differences(&self) -> Vec<i32> {
        match self {
            Self::Signed(values) => values.iter().map(|&w| i32::from(w)).collect(),
            Self::Unsigned { values, zero_point } => {
                let zero = i32::from(*zero_point);
                values.iter().map(|&w| i32::from(w) - zero).collect()
            }
        }
    }
}
