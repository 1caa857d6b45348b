//! From a canonical graph to its integer form, node by node.
//!
//! What each value stands for is a [`Flow`]; a node turns flows into another one and adds
//! layers only where integers are made. What has no integer form is refused with the node and
//! the reason.

use std::collections::HashMap;

use super::super::array::{Array, ElementType};
use super::super::eval;
use super::super::graph::{Graph, Node, ValueId};
use super::check::{Checked, check_size};
use super::flow::{Builder, Flow, Pending, Quantised, Real};
use super::layout::layout;
use super::{Element, IntegerModel, Operator, QuantisedTensor};

/// Makes the integer form of a canonical graph, or says why it has none.
pub(in super::super) fn build(graph: &Graph) -> Result<IntegerModel, String> {
    let (&[input], &[output]) = (graph.inputs.as_slice(), graph.outputs.as_slice()) else {
        return Err("an integer form has one input and one output, this model has more".to_owned());
    };
    let mut building = Building::new(graph, input)?;
    for node in &graph.nodes {
        let refused = |why| format!("{} has no integer form: {why}", node.title());
        let flow = building.flow(node).map_err(refused)?;
        if let Some(id) = node.output() {
            building.flows.insert(id, flow);
        }
    }
    let refused = |why| {
        format!(
            "the output \"{}\" has no integer form: {why}",
            graph.name(output)
        )
    };
    let model = building.finish(output).map_err(refused)?;
    model.check()?;
    Ok(model)
}

/// A graph half done.
pub(super) struct Building<'a> {
    pub(super) graph: &'a Graph,
    pub(super) flows: HashMap<ValueId, Flow>,
    pub(super) builder: Builder,
}

/// What a node reads.
pub(super) enum Operand {
    /// Real constants of a shape.
    Constant(Vec<usize>, Vec<f64>),
    Real(Real),
    Pending(Box<Pending>),
}

const UNQUANTISED: &str =
    "its input is not quantised; put QuantizeLinear and DequantizeLinear before it";

impl<'a> Building<'a> {
    fn new(graph: &'a Graph, input: ValueId) -> Checked<Self> {
        let value = graph.value(input);
        let name = graph.name(input);
        let axes: Option<Vec<usize>> = value.shape.iter().flatten().copied().collect();
        let shape = axes.filter(|_| value.shape.is_some());
        let shape = shape.ok_or_else(|| format!("the input \"{name}\" has no fixed shape"))?;
        check_size(&shape).map_err(|why| format!("the input \"{name}\": {why}"))?;
        let float_input = value.element == Some(ElementType::F32);
        let mut tensor = QuantisedTensor {
            name: name.to_owned(),
            element: Element::U8,
            shape,
            scale: 1.0,
            zero_point: 0,
        };
        match quantiser(graph, input) {
            Some(node) => {
                let like = like(graph, node)
                    .map_err(|why| format!("{} has no integer form: {why}", node.title()))?;
                tensor = QuantisedTensor {
                    name: tensor.name,
                    shape: tensor.shape,
                    ..like
                };
            }
            None if float_input => {
                return Err(format!(
                    "the input \"{name}\" is float and is not quantised before it is computed with"
                ));
            }
            None => {}
        }
        if !float_input {
            tensor.element = match value.element {
                Some(ElementType::I8) => Element::I8,
                Some(ElementType::U8) => Element::U8,
                _ => return Err(format!("the input \"{name}\" is neither float nor 8-bit")),
            };
        }
        let flow = if float_input {
            Flow::Raw(0)
        } else {
            Flow::Integer(0)
        };
        Ok(Self {
            graph,
            flows: HashMap::from([(input, flow)]),
            builder: Builder {
                model: IntegerModel {
                    tensors: vec![tensor],
                    layers: Vec::new(),
                    output: 0,
                    float_input,
                    float_output: false,
                },
            },
        })
    }

    fn flow(&mut self, node: &Node) -> Checked<Flow> {
        if !node.is_standard() {
            return Err(format!("it is an operator of {}", node.domain));
        }
        match node.op.as_str() {
            "DequantizeLinear" => return self.dequantise(node),
            "QuantizeLinear" => return self.quantise(node),
            "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger" => {
                let why = "its scale is computed from each input while the model runs; \
                           quantise the model statically, with calibration data";
                return Err(why.to_owned());
            }
            _ => {}
        }
        if let Some(flow) = node.input(0).and_then(|id| self.flows.get(&id)).cloned()
            && let Some(shape) = self.shape(&flow)
            && let Some(moves) = layout(self.graph, node, &shape)
        {
            return match moves? {
                None => Ok(flow),
                Some((operator, to)) => self.moved(node, flow, operator, to),
            };
        }
        match node.op.as_str() {
            "Conv" => self.conv(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.mean(node, true),
            "ReduceMean" => self.mean(node, false),
            "Softmax" => self.softmax(node),
            "Concat" => self.concat(node),
            "Pad" => self.pad(node),
            "BatchNormalization" => self.batch_normalization(node),
            "Relu" | "Clip" => self.cut(node),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            _ => self.table(node),
        }
    }

    fn shape(&self, flow: &Flow) -> Option<Vec<usize>> {
        Some(match flow {
            Flow::Raw(t) | Flow::Integer(t) => self.builder.tensor(*t).shape.clone(),
            Flow::Real(real) => self.builder.tensor(real.tensor).shape.clone(),
            Flow::Pending(pending) => pending.shape.clone(),
            Flow::Constant(_) => return None,
        })
    }

    fn moved(
        &mut self,
        node: &Node,
        flow: Flow,
        operator: Operator,
        to: Vec<usize>,
    ) -> Checked<Flow> {
        let picks = matches!(operator, Operator::MaxPool(_));
        let builder = &mut self.builder;
        Ok(match flow {
            Flow::Raw(t) => Flow::Raw(builder.moved(&node.name, operator, t, to)),
            Flow::Integer(t) => Flow::Integer(builder.moved(&node.name, operator, t, to)),
            Flow::Real(real) => {
                // The largest integer is the largest value only where values rise with it.
                let real = match picks {
                    true => builder.linear(&real, &node.name).ok_or(UNQUANTISED)?,
                    false => real,
                };
                let tensor = builder.moved(&node.name, operator, real.tensor, to);
                Flow::Real(Real { tensor, ..real })
            }
            Flow::Pending(mut pending) => {
                pending.shape.clone_from(&to);
                pending.after.push((node.name.clone(), operator, to));
                Flow::Pending(pending)
            }
            Flow::Constant(_) => return Err("it moves constants".to_owned()),
        })
    }

    fn dequantise(&self, node: &Node) -> Checked<Flow> {
        let id = node.input(0).ok_or("it has no input")?;
        let scales = node.input(1).and_then(|s| self.graph.constant(s)?.as_f32());
        let scales = scales
            .ok_or("its scale is computed while the model runs")?
            .to_vec();
        if let Some(array) = self.graph.constant(id) {
            let kind = array.element();
            let least = match kind {
                ElementType::I32 => i32::MIN,
                _ => match kind.integer_range() {
                    Some((least, _)) => least,
                    None => return Err(format!("its constant has {kind} elements")),
                },
            };
            let zero_points = match node.input(2) {
                Some(zero) => self.graph.constant(zero).and_then(Array::to_i32),
                None => Some(vec![0]),
            };
            let axis = super::layout::axis(node.int("axis").unwrap_or(1), array.rank())?;
            let channels = array.shape().get(axis).copied().unwrap_or(1);
            let fits = |length: usize| length == 1 || length == channels;
            let zero_points = zero_points.filter(|z| fits(z.len()));
            if !fits(scales.len()) || node.int("block_size").unwrap_or(0) != 0 {
                return Err("its scales are neither one nor one for each channel".to_owned());
            }
            return Ok(Flow::Constant(Quantised {
                values: array.to_i32().ok_or("its constant has no 8-bit elements")?,
                shape: array.shape().to_vec(),
                least,
                scales,
                zero_points: zero_points.ok_or("its zero point is not constant")?,
                axis,
            }));
        }
        match self.flows.get(&id) {
            Some(Flow::Integer(tensor)) => {
                let like = like(self.graph, node)?;
                Ok(Flow::Real(Real {
                    tensor: *tensor,
                    scale: like.scale,
                    zero_point: like.zero_point,
                    table: None,
                }))
            }
            _ => Err("what it reads is no 8-bit tensor".to_owned()),
        }
    }

    fn quantise(&mut self, node: &Node) -> Checked<Flow> {
        let id = node.input(0).ok_or("it has no input")?;
        let mut like = like(self.graph, node)?;
        like.name = node
            .output()
            .map_or("", |id| self.graph.name(id))
            .to_owned();
        match self.flows.get(&id).cloned() {
            Some(Flow::Raw(tensor)) => {
                let own = self.builder.tensor(tensor);
                let same = (own.element, own.scale, own.zero_point);
                match same == (like.element, like.scale, like.zero_point) {
                    true => Ok(Flow::Integer(tensor)),
                    false => Err("the model's input is quantised in two ways".to_owned()),
                }
            }
            Some(Flow::Real(real)) => {
                let tensor = self.builder.quantise_real(&real, like, &node.name);
                Ok(Flow::Integer(tensor))
            }
            Some(Flow::Pending(pending)) => Ok(Flow::Integer(self.builder.settle(&pending, like)?)),
            Some(Flow::Integer(_)) => Err("what it reads is quantised already".to_owned()),
            Some(Flow::Constant(_)) | None => Err("it quantises a constant".to_owned()),
        }
    }

    /// What input `place` of the node is.
    pub(super) fn operand(&self, node: &Node, place: usize) -> Checked<Operand> {
        let id = node.input(place).ok_or("an input is missing")?;
        if let Some(array) = self.graph.constant(id) {
            let values = array.to_f64().ok_or("a constant holds no numbers")?;
            return Ok(Operand::Constant(array.shape().to_vec(), values));
        }
        match self.flows.get(&id) {
            Some(Flow::Constant(c)) => Ok(Operand::Constant(c.shape.clone(), c.reals())),
            Some(Flow::Real(real)) => Ok(Operand::Real(real.clone())),
            Some(Flow::Pending(pending)) => Ok(Operand::Pending(pending.clone())),
            Some(Flow::Integer(_)) => Err("it computes with integers".to_owned()),
            Some(Flow::Raw(_)) => {
                Err("the model's input reaches it as float; quantise it first".to_owned())
            }
            None => Err("what it reads is not known".to_owned()),
        }
    }

    /// Input `place` as a tensor whose real values are in steps.
    pub(super) fn steps(&mut self, node: &Node, place: usize) -> Checked<Real> {
        match self.operand(node, place)? {
            Operand::Real(real) => {
                let linear = self.builder.linear(&real, &node.name);
                linear.ok_or_else(|| UNQUANTISED.to_owned())
            }
            Operand::Pending(_) => Err(UNQUANTISED.to_owned()),
            Operand::Constant(..) => Err("it computes with a constant".to_owned()),
        }
    }

    /// A function of one tensor, element by element, as a table of its values.
    pub(super) fn table(&self, node: &Node) -> Checked<Flow> {
        if !ELEMENTWISE.contains(&node.op.as_str()) {
            return Err("it is none of the operators that are computed in integers".to_owned());
        }
        let mut from: Option<Real> = None;
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for place in 0..node.inputs.len() {
            inputs.push(match node.input(place) {
                None => None,
                Some(_) => Some(match self.operand(node, place)? {
                    Operand::Constant(shape, values) => match values.as_slice() {
                        // More axes than the tensor has would give it more.
                        [value] if shape.len() <= 1 => Array::scalar(*value as f32),
                        _ => return Err("its constant differs from place to place".to_owned()),
                    },
                    Operand::Pending(_) => return Err(UNQUANTISED.to_owned()),
                    Operand::Real(real) => {
                        let values = self.builder.reals(&real);
                        if from.is_some_and(|other| other.tensor != real.tensor) {
                            return Err("it computes with two tensors".to_owned());
                        }
                        from = Some(real);
                        Array::row(values)
                    }
                }),
            });
        }
        let real = from.ok_or("it computes with constants alone")?;
        let made = eval::apply(
            self.graph,
            node,
            inputs.iter().map(Option::as_ref).collect(),
        );
        let made = made.map_err(|why| why.to_string())?;
        let values = made
            .first()
            .and_then(Array::as_f32)
            .filter(|v| v.len() == 256);
        let table = values.ok_or("it makes no real values")?.to_vec();
        Ok(Flow::Real(Real {
            table: Some(table),
            ..real
        }))
    }

    fn finish(mut self, output: ValueId) -> Checked<IntegerModel> {
        let float = QuantisedTensor {
            name: self.graph.name(output).to_owned(),
            element: Element::F32,
            shape: Vec::new(),
            scale: 1.0,
            zero_point: 0,
        };
        let flow = self.flows.remove(&output).ok_or("nothing makes it")?;
        let (place, float_output) = match flow {
            Flow::Integer(tensor) => (tensor, false),
            Flow::Pending(pending) => (self.builder.settle(&pending, float)?, true),
            Flow::Real(real) => {
                let own = self.builder.tensor(real.tensor);
                let same = real.table.is_none() && real.scale == own.scale;
                if same && real.zero_point == own.zero_point {
                    (real.tensor, true)
                } else {
                    let values = Operator::Values(self.builder.reals(&real));
                    let shape = own.shape.clone();
                    let float = QuantisedTensor { shape, ..float };
                    let name = float.name.clone();
                    (
                        self.builder
                            .add(&name, values, vec![real.tensor], [0, 0], float),
                        true,
                    )
                }
            }
            Flow::Raw(_) => return Err("it is the input itself".to_owned()),
            Flow::Constant(_) => return Err("it is constant".to_owned()),
        };
        let mut model = self.builder.model;
        model.output = place;
        model.float_output = float_output;
        Ok(model)
    }
}

/// Operators that make each element of the same place in their inputs alone.
const ELEMENTWISE: [&str; 36] = [
    "Abs",
    "Add",
    "Atan",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Log",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sin",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Tanh",
    "ThresholdedRelu",
];

/// Element type, scale and zero point that a QuantizeLinear makes or a DequantizeLinear reads,
/// of a tensor without axes.
fn like(graph: &Graph, node: &Node) -> Checked<QuantisedTensor> {
    let scale = node.input(1).and_then(|id| graph.constant(id));
    let scale = scale.ok_or("its scale is computed while the model runs")?;
    let scale = scale
        .as_single_f32()
        .ok_or("its scale differs from channel to channel")?;
    let zero = match node.input(2) {
        Some(id) => Some(graph.constant(id).ok_or("its zero point is not constant")?),
        None => None,
    };
    let kind = match (zero, node.int("output_dtype")) {
        (Some(zero), _) => zero.element(),
        (None, Some(kind)) if kind != 0 => ElementType(i32::try_from(kind).unwrap_or(0)),
        _ => ElementType::U8,
    };
    let element = match kind {
        ElementType::U8 => Element::U8,
        ElementType::I8 => Element::I8,
        kind => return Err(format!("it quantises to {kind}, not to 8 bits")),
    };
    let zero_point = match zero.and_then(Array::to_i32).as_deref() {
        Some([zero]) => *zero,
        None => 0,
        _ => return Err("its zero point differs from channel to channel".to_owned()),
    };
    Ok(QuantisedTensor {
        name: String::new(),
        element,
        shape: Vec::new(),
        scale,
        zero_point,
    })
}

/// The first node that says what the integers of `input` stand for, behind nodes that move.
fn quantiser(graph: &Graph, input: ValueId) -> Option<&Node> {
    const MOVES: [&str; 10] = [
        "Dropout",
        "Flatten",
        "Identity",
        "MaxPool",
        "Pad",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ];
    let mut reached = vec![input];
    for node in &graph.nodes {
        if !node.input(0).is_some_and(|id| reached.contains(&id)) {
            continue;
        }
        if node.is("QuantizeLinear") || node.is("DequantizeLinear") {
            return Some(node);
        }
        if MOVES.contains(&node.op.as_str()) {
            reached.extend(node.output());
        }
    }
    None
}
