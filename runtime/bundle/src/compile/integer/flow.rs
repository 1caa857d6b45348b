//! What a value of the graph is while the integer form is built, and how it gets a tensor.
//!
//! A float value between DequantizeLinear and QuantizeLinear never exists as such. It is
//! either a function of one integer tensor ([`Real`]: at most 256 different values) or the
//! result of a layer that waits for its quantiser ([`Pending`]).

use super::check::{Checked, check_size, shape_of};
use super::{Element, IntegerModel, Layer, Operator, QuantisedTensor};

/// What a value of the graph stands for.
#[derive(Clone, Debug)]
pub(super) enum Flow {
    /// An integer constant with its scales.
    Constant(Quantised),
    /// The caller's real values, which the model takes as integers of this tensor.
    Raw(usize),
    /// An integer tensor.
    Integer(usize),
    /// Real values that follow from an integer tensor.
    Real(Real),
    /// Real values of a layer to be.
    Pending(Box<Pending>),
}

/// An integer constant under a DequantizeLinear.
#[derive(Clone, Debug)]
pub(super) struct Quantised {
    pub(super) values: Vec<i32>,
    pub(super) shape: Vec<usize>,
    /// Least integer of their type.
    pub(super) least: i32,
    /// One, or one for each place along `axis`.
    pub(super) scales: Vec<f32>,
    pub(super) zero_points: Vec<i32>,
    pub(super) axis: usize,
}

/// A real value for each integer of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Real {
    pub(super) tensor: usize,
    pub(super) scale: f32,
    pub(super) zero_point: i32,
    /// The real value of each integer where it is not `scale * (integer - zero_point)`.
    pub(super) table: Option<Vec<f32>>,
}

/// A layer that waits for the scale of its output. Its multipliers make real values.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) name: String,
    pub(super) operator: Operator,
    pub(super) inputs: Vec<usize>,
    /// Biases of a weighted sum in real values; of no other operator.
    pub(super) bias: Vec<f64>,
    /// Shape of the result, before `after`.
    pub(super) made: Vec<usize>,
    /// Shape after everything.
    pub(super) shape: Vec<usize>,
    pub(super) low: f32,
    pub(super) high: f32,
    /// Layers that move or pick integers, with their names and shapes.
    pub(super) after: Vec<(String, Operator, Vec<usize>)>,
}

/// The model in the making.
pub(super) struct Builder {
    pub(super) model: IntegerModel,
}

impl Quantised {
    /// The real values.
    pub(super) fn reals(&self) -> Vec<f64> {
        let width: usize = self.shape.iter().skip(self.axis + 1).product();
        let real = |(place, &value): (usize, &i32)| {
            let channel = |length: usize| place / width.max(1) % length;
            let zero = self.zero_points[channel(self.zero_points.len())];
            let scale = self.scales[channel(self.scales.len())];
            (f64::from(value) - f64::from(zero)) * f64::from(scale)
        };
        self.values.iter().enumerate().map(real).collect()
    }
}

impl Builder {
    pub(super) fn tensor(&self, place: usize) -> &QuantisedTensor {
        &self.model.tensors[place]
    }

    /// The tensor that this layer makes, which is added unless the same is there already.
    pub(super) fn add(
        &mut self,
        name: &str,
        operator: Operator,
        inputs: Vec<usize>,
        clamp: [i32; 2],
        output: QuantisedTensor,
    ) -> usize {
        let same = |layer: &&Layer| {
            let made = self.tensor(layer.output);
            let kind = (made.element, made.scale, made.zero_point);
            layer.inputs == inputs
                && layer.clamp == clamp
                && kind == (output.element, output.scale, output.zero_point)
                && made.shape == output.shape
                && layer.operator == operator
        };
        if let Some(layer) = self.model.layers.iter().find(same) {
            return layer.output;
        }
        let place = self.model.tensors.len();
        self.model.tensors.push(output);
        self.model.layers.push(Layer {
            name: name.to_owned(),
            inputs,
            output: place,
            clamp,
            operator,
        });
        place
    }

    /// Adds a layer that moves or picks integers of `from`.
    pub(super) fn moved(
        &mut self,
        name: &str,
        operator: Operator,
        from: usize,
        shape: Vec<usize>,
    ) -> usize {
        let output = QuantisedTensor {
            name: name.to_owned(),
            shape,
            ..self.tensor(from).clone()
        };
        let clamp = output.element.range();
        self.add(name, operator, vec![from], clamp, output)
    }

    /// The real values of each integer, the least first.
    pub(super) fn reals(&self, real: &Real) -> Vec<f32> {
        let [low, high] = self.tensor(real.tensor).element.range();
        let linear = |q: i32| (q - real.zero_point) as f32 * real.scale;
        match &real.table {
            Some(table) => table.clone(),
            None => (low..=high).map(linear).collect(),
        }
    }

    /// A tensor and scale whose real values are exactly those of `real`: its own, or one that
    /// a table makes when, as after Relu, every value is one of the same steps.
    pub(super) fn linear(&mut self, real: &Real, name: &str) -> Option<Real> {
        let Some(table) = &real.table else {
            return Some(real.clone());
        };
        let own = self.tensor(real.tensor);
        let output = QuantisedTensor {
            name: name.to_owned(),
            scale: real.scale,
            zero_point: real.zero_point,
            ..own.clone()
        };
        let mut entries = Vec::with_capacity(table.len());
        for &value in table {
            let integer = output.quantise(value);
            if (integer - output.zero_point) as f32 * output.scale != value {
                return None;
            }
            entries.push(integer as u8);
        }
        let clamp = output.element.range();
        let operator = Operator::Table(entries);
        let tensor = self.add(name, operator, vec![real.tensor], clamp, output);
        Some(Real {
            tensor,
            table: None,
            ..*real
        })
    }

    /// The tensor of `real`'s values in the steps of `like`, whose shape does not count.
    pub(super) fn quantise_real(
        &mut self,
        real: &Real,
        like: QuantisedTensor,
        name: &str,
    ) -> usize {
        let own = self.tensor(real.tensor);
        let output = QuantisedTensor {
            shape: own.shape.clone(),
            ..like
        };
        let integers: Vec<i32> = self
            .reals(real)
            .iter()
            .map(|&v| output.quantise(v))
            .collect();
        let [low, high] = own.element.range();
        let same = own.element == output.element && (low..=high).eq(integers.iter().copied());
        if same {
            return real.tensor;
        }
        let entries = integers.iter().map(|&q| q as u8).collect();
        let clamp = output.element.range();
        self.add(
            name,
            Operator::Table(entries),
            vec![real.tensor],
            clamp,
            output,
        )
    }

    /// The tensor of a pending layer in the steps of `like`, whose shape does not count.
    pub(super) fn settle(&mut self, pending: &Pending, like: QuantisedTensor) -> Checked<usize> {
        let output = QuantisedTensor {
            shape: pending.made.clone(),
            ..like
        };
        let clamp = match output.element {
            Element::F32 if pending.low > f32::MIN || pending.high < f32::MAX => {
                return Err("its result is cut off but not quantised".to_owned());
            }
            Element::F32 if !pending.after.is_empty() => {
                return Err("its result is moved but not quantised".to_owned());
            }
            Element::F32 => [0, 0],
            _ => [pending.low, pending.high].map(|bound| output.quantise(bound)),
        };
        let mut operator = pending.operator.clone();
        if let Operator::Conv { linear, .. } | Operator::Dense(linear) = &mut operator {
            for (channel, bias) in pending.bias.iter().enumerate() {
                let scale = &mut linear.multipliers[channel];
                let mut sums = bias / f64::from(*scale);
                let width = linear.weights.len() / pending.bias.len();
                let row = channel * width..(channel + 1) * width;
                if sums.abs() > f64::from(i32::MAX / 2)
                    && linear.weights.differences()[row].iter().all(|&w| w == 0)
                {
                    // A dead channel has a scale of next to nothing; any will do.
                    *scale = (bias.abs() / f64::from(1 << 24)) as f32;
                    sums = bias / f64::from(*scale);
                }
                if sums.abs() > f64::from(i32::MAX) {
                    return Err("a bias is too large for the scale of its weights".to_owned());
                }
                linear.bias[channel] = sums.round_ties_even() as i32;
            }
        }
        rescale(&mut operator, output.scale);
        let inputs = pending.inputs.clone();
        let mut tensor = self.add(&pending.name, operator, inputs, clamp, output);
        for (name, operator, shape) in &pending.after {
            tensor = self.moved(name, operator.clone(), tensor, shape.clone());
        }
        Ok(tensor)
    }

    /// A layer of these inputs that waits for its quantiser.
    pub(super) fn pending(
        &self,
        name: &str,
        operator: Operator,
        inputs: Vec<usize>,
    ) -> Checked<Pending> {
        let shapes: Vec<&[usize]> = inputs
            .iter()
            .map(|&n| self.tensor(n).shape.as_slice())
            .collect();
        let made = shape_of(&operator, &shapes)?.ok_or("its shape is not known")?;
        check_size(&made)?;
        let outputs = match &operator {
            Operator::Conv { linear, .. } | Operator::Dense(linear) => linear.bias.len(),
            _ => 0,
        };
        Ok(Pending {
            name: name.to_owned(),
            operator,
            inputs,
            bias: vec![0.0; outputs],
            shape: made.clone(),
            made,
            low: f32::MIN,
            high: f32::MAX,
            after: Vec::new(),
        })
    }
}

/// Turns multipliers to real values into such to steps of `scale`.
fn rescale(operator: &mut Operator, scale: f32) {
    let (some, one): (&mut [f32], Option<&mut f32>) = match operator {
        Operator::Conv { linear, .. } | Operator::Dense(linear) => (&mut linear.multipliers, None),
        Operator::Add { multipliers } => (multipliers, None),
        Operator::Concat { multipliers, .. } => (multipliers, None),
        Operator::MatMul { multiplier }
        | Operator::Mul { multiplier }
        | Operator::Mean { multiplier, .. }
        | Operator::Softmax { multiplier, .. } => (&mut [], Some(multiplier)),
        Operator::AveragePool { scales, .. } => {
            scales[1] = scale;
            (&mut [], None)
        }
        Operator::Scale {
            multipliers,
            offsets,
            ..
        } => {
            for offset in offsets {
                *offset /= scale;
            }
            (multipliers, None)
        }
        _ => (&mut [], None),
    };
    for multiplier in some.iter_mut().chain(one) {
        *multiplier /= scale;
    }
}
