//! What an integer model costs, and the model as text.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter, Result};

use super::{Element, IntegerModel, Linear, Operator, QuantisedTensor, Weights};

impl Operator {
    /// Short name of the kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "Conv",
            Self::Dense(_) => "Dense",
            Self::MatMul { .. } => "MatMul",
            Self::Add { .. } => "Add",
            Self::Mul { .. } => "Mul",
            Self::Concat { .. } => "Concat",
            Self::AveragePool { .. } => "AveragePool",
            Self::Mean { .. } => "Mean",
            Self::MaxPool(_) => "MaxPool",
            Self::Softmax { .. } => "Softmax",
            Self::Table(_) => "Table",
            Self::Values(_) => "Values",
            Self::Scale { .. } => "Scale",
            Self::Reshape => "Reshape",
            Self::Transpose(_) => "Transpose",
            Self::Slice { .. } => "Slice",
            Self::Pad { .. } => "Pad",
        }
    }

    /// Bytes of its constants.
    fn constant_bytes(&self) -> usize {
        match self {
            Self::Conv { linear, .. } | Self::Dense(linear) => linear.bytes(),
            Self::Concat { multipliers, .. } => 4 * multipliers.len(),
            Self::Softmax { exponentials, .. } => 4 * exponentials.len(),
            Self::Table(table) => table.len(),
            Self::Values(values) => 4 * values.len(),
            Self::Scale { multipliers, .. } => 8 * multipliers.len(),
            Self::MatMul { .. } | Self::Mul { .. } => 4,
            Self::Mean { .. } => 4,
            Self::Add { .. } | Self::AveragePool { .. } => 8,
            _ => 0,
        }
    }
}

impl Linear {
    fn bytes(&self) -> usize {
        self.weights.len() + 4 * self.bias.len() + 4 * self.multipliers.len()
    }
}

impl IntegerModel {
    /// Multiplications of a weight or an activation by an activation, for one input.
    pub fn macs(&self) -> usize {
        let layers = self.layers.iter().filter(|layer| {
            let operator = &layer.operator;
            matches!(
                operator,
                Operator::Conv { .. } | Operator::Dense(_) | Operator::MatMul { .. }
            )
        });
        let work = layers.filter_map(|layer| {
            let input = &self.tensors[layer.inputs[0]];
            layer.work(&input.shape, &self.tensors[layer.output].shape)
        });
        work.sum()
    }

    /// Bytes of all constants: weights, biases, multipliers and tables.
    pub fn weight_bytes(&self) -> usize {
        self.layers
            .iter()
            .map(|l| l.operator.constant_bytes())
            .sum()
    }

    /// Bytes of the tensors that are needed at the same time, at the worst time. Less no
    /// interpreter can do with that makes whole tensors; a reshape is in place.
    pub fn arena_bytes(&self) -> usize {
        let mut root: Vec<usize> = (0..self.tensors.len()).collect();
        // The layers after which a tensor is there, and after which it is not any more.
        let mut first = vec![0; self.tensors.len()];
        let mut last = vec![0; self.tensors.len()];
        for (place, layer) in self.layers.iter().enumerate() {
            if layer.operator == Operator::Reshape {
                root[layer.output] = root[layer.inputs[0]];
            } else {
                first[layer.output] = place;
            }
            for &tensor in layer.inputs.iter().chain([&layer.output]) {
                last[root[tensor]] = place;
            }
        }
        last[root[self.output]] = self.layers.len();
        let bytes = |tensor: &QuantisedTensor| tensor.len() * tensor.element.size();
        let at = |place: usize| -> usize {
            let all = self.tensors.iter().enumerate();
            let live =
                all.filter(|(n, _)| root[*n] == *n && first[*n] <= place && place <= last[*n]);
            live.map(|(_, tensor)| bytes(tensor)).sum()
        };
        (0..=self.layers.len()).map(at).max().unwrap_or(0)
    }

    /// How many layers there are of each kind.
    pub fn operators(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for layer in &self.layers {
            *counts.entry(layer.operator.name()).or_default() += 1;
        }
        counts
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::F32 => "f32",
        })
    }
}

impl Display for QuantisedTensor {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let axes: Vec<String> = self.shape.iter().map(ToString::to_string).collect();
        write!(f, "{}[{}]", self.element, axes.join(","))?;
        match self.element {
            Element::F32 => Ok(()),
            _ => write!(f, " {} x (q - {})", self.scale, self.zero_point),
        }
    }
}

/// One line for the input, each layer and the output, for people.
impl Display for IntegerModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let real = |is: bool| if is { ", given as f32" } else { "" };
        writeln!(f, "in    {}{}", self.input(), real(self.float_input))?;
        for layer in &self.layers {
            let inputs: Vec<String> = layer.inputs.iter().map(|n| format!("t{n}")).collect();
            let (name, output) = (layer.operator.name(), &self.tensors[layer.output]);
            write!(f, "t{} = {name}({})", layer.output, inputs.join(", "))?;
            match &layer.operator {
                Operator::Conv {
                    window,
                    groups,
                    linear,
                } => {
                    let [height, width] = window.kernel;
                    write!(
                        f,
                        " {height}x{width}, {groups} groups{}",
                        unsigned(&linear.weights)
                    )?;
                }
                Operator::Dense(linear) => f.write_str(unsigned(&linear.weights))?,
                _ => {}
            }
            let clamped = layer.clamp != output.element.range();
            write!(f, " -> {output}")?;
            if clamped {
                write!(f, " in {}..={}", layer.clamp[0], layer.clamp[1])?;
            }
            writeln!(f)?;
        }
        writeln!(f, "out   t{}{}", self.output, real(self.float_output))?;
        write!(
            f,
            "{} multiplications, {} B of constants, {} B of activations",
            self.macs(),
            self.weight_bytes(),
            self.arena_bytes()
        )
    }
}

fn unsigned(weights: &Weights) -> &'static str {
    match weights {
        Weights::Signed(_) => "",
        Weights::Unsigned { .. } => ", unsigned weights",
    }
}
