//! Element types and shapes that follow from those of the inputs.
//!
//! Matches every node of a known operator whose inputs have a known shape. Makes nothing but
//! notes at the values it gives; what the file says stays where nothing follows. Right because
//! each rule is that of the operator's definition; operators without a rule here, and shapes
//! that depend on data, are left open. Nothing is allocated by the sizes that are found, so
//! that a file may claim any.

mod layout;
mod window;

pub(super) use layout::bounds;

use crate::compile::array::ElementType;
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, Graph, MOST_AXES, Node, ValueId};

type Shape = Vec<usize>;

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let mut changed = 0;
    for place in 0..graph.nodes.len() {
        changed += note(graph, place);
    }
    Ok(changed)
}

/// Notes what follows for the outputs of the node at `place`; gives how many were news.
pub(super) fn note(graph: &mut Graph, place: usize) -> usize {
    let node = &graph.nodes[place];
    let shapes = shapes(graph, node).unwrap_or_default();
    let outputs = node.outputs.clone();
    let elements: Vec<Option<ElementType>> = (0..outputs.len())
        .map(|output| element(graph, node, output))
        .collect();
    let mut changed = 0;
    let mut shapes = shapes.into_iter();
    for (output, element) in outputs.into_iter().zip(elements) {
        let shape = shapes.next();
        let Some(id) = output else {
            continue;
        };
        let value = graph.value_mut(id);
        value.element = element.or(value.element);
        if let Some(shape) = shape {
            let shape = Some(shape.into_iter().map(Some).collect());
            changed += usize::from(value.shape != shape);
            value.shape = shape;
        }
    }
    changed
}

/// What a rule may ask of its node.
struct Inputs<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

impl Inputs<'_> {
    fn shape(&self, place: usize) -> Option<Shape> {
        exact(self.graph, self.node.input(place)?)
    }

    /// The elements of a constant input of indices, of which there are a few per axis.
    fn indices(&self, place: usize) -> Option<&[i64]> {
        let indices = self.graph.constant(self.node.input(place)?)?.as_i64()?;
        (indices.len() <= 2 * MOST_AXES).then_some(indices)
    }

    fn has(&self, place: usize) -> bool {
        self.node.input(place).is_some()
    }

    fn int(&self, name: &str, otherwise: i64) -> i64 {
        self.node.int(name).unwrap_or(otherwise)
    }
}

/// The shape of a value without open axes.
pub(super) fn exact(graph: &Graph, id: ValueId) -> Option<Shape> {
    let shape = graph.value(id).shape.as_ref()?;
    if shape.len() > MOST_AXES {
        return None;
    }
    shape.iter().copied().collect()
}

/// Axis `axis` of `rank`, which may be counted from the end.
fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let from_start = match axis {
        0.. => axis,
        _ => axis.checked_add(i64::try_from(rank).ok()?)?,
    };
    usize::try_from(from_start).ok().filter(|a| *a < rank)
}

/// Number of elements; nothing where it is beyond counting.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// The shape of a node's outputs in their order, where it follows.
pub(super) fn shapes(graph: &Graph, node: &Node) -> Option<Vec<Shape>> {
    let inputs = Inputs { graph, node };
    let of = |shape: Option<Shape>| Some(vec![shape?]);
    if !node.is_standard() {
        return match (node.domain.as_str(), node.op.as_str()) {
            ("com.microsoft", "QLinearAdd" | "QLinearMul") => {
                of(broadcast(inputs.shape(0)?, &inputs.shape(3)?))
            }
            (
                "com.microsoft",
                "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax" | "QuantizeLinear"
                | "DequantizeLinear" | "Gelu",
            ) => of(inputs.shape(0)),
            _ => None,
        };
    }
    match node.op.as_str() {
        "Abs"
        | "Acos"
        | "Acosh"
        | "Asin"
        | "Asinh"
        | "Atan"
        | "Atanh"
        | "BitwiseNot"
        | "Cast"
        | "CastLike"
        | "Ceil"
        | "Celu"
        | "Clip"
        | "Cos"
        | "Cosh"
        | "CumSum"
        | "DequantizeLinear"
        | "Elu"
        | "Erf"
        | "Exp"
        | "Floor"
        | "Gelu"
        | "HardSigmoid"
        | "HardSwish"
        | "Hardmax"
        | "Identity"
        | "InstanceNormalization"
        | "IsInf"
        | "IsNaN"
        | "LRN"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "LpNormalization"
        | "MeanVarianceNormalization"
        | "Mish"
        | "Neg"
        | "Not"
        | "QuantizeLinear"
        | "Reciprocal"
        | "Relu"
        | "Round"
        | "ScatterElements"
        | "ScatterND"
        | "Selu"
        | "Shrink"
        | "Sigmoid"
        | "Sign"
        | "Sin"
        | "Sinh"
        | "Softmax"
        | "Softplus"
        | "Softsign"
        | "Sqrt"
        | "Swish"
        | "Tan"
        | "Tanh"
        | "ThresholdedRelu"
        | "Trilu"
        | "GroupNormalization"
        | "RMSNormalization" => of(inputs.shape(0)),
        // Their other outputs are those of training.
        "BatchNormalization" | "LayerNormalization" => of(inputs.shape(0)),
        "Dropout" => Some(vec![inputs.shape(0)?, inputs.shape(0)?]),
        "DynamicQuantizeLinear" => Some(vec![inputs.shape(0)?, Vec::new(), Vec::new()]),
        "Add" | "And" | "BitShift" | "BitwiseAnd" | "BitwiseOr" | "BitwiseXor" | "Div"
        | "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Mean"
        | "Min" | "Mod" | "Mul" | "Or" | "PRelu" | "Pow" | "Sub" | "Sum" | "Where" | "Xor" => {
            let mut shape = inputs.shape(0)?;
            for place in 1..node.inputs.len() {
                shape = broadcast(shape, &inputs.shape(place)?)?;
            }
            of(Some(shape))
        }
        "MatMul" | "MatMulInteger" => of(product(inputs.shape(0)?, inputs.shape(1)?)),
        "QLinearMatMul" => of(product(inputs.shape(0)?, inputs.shape(3)?)),
        "Gemm" => of(gemm(&inputs)),
        "LSTM" | "GRU" | "RNN" => recurrent(&inputs),
        "Shape" | "Size" => layout::shapes(&inputs),
        op if op.starts_with("Reduce") => layout::shapes(&inputs),
        _ => match window::shape(&inputs) {
            // MaxPool tells, too, where each of its results was.
            Some(shape) => Some(vec![shape.clone(), shape]),
            None => layout::shapes(&inputs),
        },
    }
}

/// Both shapes under NumPy's rule.
fn broadcast(a: Shape, b: &[usize]) -> Option<Shape> {
    let (mut long, short) = if a.len() < b.len() {
        (b.to_vec(), a)
    } else {
        (a, b.to_vec())
    };
    let ahead = long.len() - short.len();
    for (place, size) in short.into_iter().enumerate() {
        let axis = &mut long[ahead + place];
        *axis = match (*axis, size) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => return None,
        };
    }
    Some(long)
}

fn product(mut a: Shape, mut b: Shape) -> Option<Shape> {
    let (row, column) = (a.len() == 1, b.len() == 1);
    if row {
        a.insert(0, 1);
    }
    if column {
        b.push(1);
    }
    let (deep, rows) = (a.pop()?, a.pop()?);
    let (columns, deep_too) = (b.pop()?, b.pop()?);
    if deep != deep_too {
        return None;
    }
    let mut shape = broadcast(a, &b)?;
    if !row {
        shape.push(rows);
    }
    if !column {
        shape.push(columns);
    }
    Some(shape)
}

fn gemm(inputs: &Inputs<'_>) -> Option<Shape> {
    let side = |place: usize, name: &str| match *inputs.shape(place)?.as_slice() {
        [a, b] if inputs.int(name, 0) != 0 => Some((b, a)),
        [a, b] => Some((a, b)),
        _ => None,
    };
    let (rows, deep) = side(0, "transA")?;
    let (deep_too, columns) = side(1, "transB")?;
    (deep == deep_too).then(|| vec![rows, columns])
}

/// All steps, the last state, and the last cell of an LSTM.
fn recurrent(inputs: &Inputs<'_>) -> Option<Vec<Shape>> {
    let [first, second, _] = *inputs.shape(0)?.as_slice() else {
        return None;
    };
    let [directions, _, hidden] = *inputs.shape(2)?.as_slice() else {
        return None;
    };
    Some(match inputs.int("layout", 0) {
        0 => {
            let last = vec![directions, second, hidden];
            vec![vec![first, directions, second, hidden], last.clone(), last]
        }
        _ => {
            let last = vec![first, directions, hidden];
            vec![vec![first, second, directions, hidden], last.clone(), last]
        }
    })
}

/// The element type of output `output`, where it follows.
fn element(graph: &Graph, node: &Node, output: usize) -> Option<ElementType> {
    let of = |place: usize| graph.value(node.input(place)?).element;
    let code = |name: &str| {
        let code = i32::try_from(node.int(name)?).ok()?;
        (code != 0).then_some(ElementType(code))
    };
    if !node.is_standard() {
        return None;
    }
    match (node.op.as_str(), output) {
        ("Cast", _) => code("to"),
        ("QuantizeLinear", _) => of(2).or_else(|| code("output_dtype")).or_else(|| {
            let stated = node.input(2).is_some();
            (!stated).then_some(ElementType::U8)
        }),
        ("DequantizeLinear", _) => code("output_dtype").or_else(|| of(1)),
        ("DynamicQuantizeLinear", 1) => Some(ElementType::F32),
        ("DynamicQuantizeLinear", _) => Some(ElementType::U8),
        ("ConvInteger" | "MatMulInteger", _) => Some(ElementType::I32),
        ("QLinearConv" | "QLinearMatMul", _) => of(7),
        ("Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero", _) => Some(ElementType::I64),
        ("TopK", 1) | ("MaxPool", 1) => Some(ElementType::I64),
        ("Dropout", 1) => Some(ElementType::BOOL),
        (
            "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Xor"
            | "Not" | "IsInf" | "IsNaN",
            _,
        ) => Some(ElementType::BOOL),
        ("Where", _) => of(1),
        ("CastLike", _) => of(1),
        ("ConstantOfShape", _) => match node.attributes.get("value") {
            Some(Attribute::Tensor(value)) => Some(value.element()),
            _ => Some(ElementType::F32),
        },
        ("OneHot", _) => of(2),
        // Operators of inner graphs, and those that make values out of nothing.
        ("If" | "Loop" | "Scan" | "EyeLike" | "Multinomial" | "Bernoulli", _) => None,
        (op, _) if op.starts_with("Random") || op.starts_with("Sequence") => None,
        ("BatchNormalization" | "LayerNormalization", 1..) => None,
        _ => of(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::draft::Draft;

    /// The shape of `y`, which the drafted node makes.
    fn of(draft: Draft) -> Option<Shape> {
        let mut graph = draft.output("y").graph();
        run(&mut graph).unwrap();
        exact(&graph, graph.outputs[0])
    }

    fn x(shape: &[usize]) -> Draft {
        Draft::new(13).input("x", ElementType::F32, shape)
    }

    fn ints(values: &[i64]) -> Attribute {
        Attribute::Ints(values.to_vec())
    }

    #[test]
    fn windows_step_as_their_attributes_say() {
        let conv = |attributes: &[(&str, Attribute)]| {
            let draft = x(&[1, 3, 9, 10]).f32("w", &[4, 3, 3, 2], &[0.0; 72]);
            of(draft.node_with("Conv", &["x", "w"], &["y"], attributes))
        };
        assert_eq!(conv(&[]), Some(vec![1, 4, 7, 9]));
        let same = [
            ("auto_pad", Attribute::String("SAME_UPPER".into())),
            ("strides", ints(&[2, 3])),
        ];
        assert_eq!(conv(&same), Some(vec![1, 4, 5, 4]));
        let padded = [("pads", ints(&[1, 0, 1, 2])), ("dilations", ints(&[2, 1]))];
        assert_eq!(conv(&padded), Some(vec![1, 4, 7, 11]));
        let pool = |ceil: i64| {
            let attributes = [
                ("kernel_shape", ints(&[2, 2])),
                ("strides", ints(&[2, 2])),
                ("ceil_mode", Attribute::Int(ceil)),
            ];
            of(x(&[1, 3, 9, 10]).node_with("MaxPool", &["x"], &["y"], &attributes))
        };
        assert_eq!(pool(0), Some(vec![1, 3, 4, 5]));
        assert_eq!(pool(1), Some(vec![1, 3, 5, 5]));
    }

    #[test]
    fn layouts_follow_constant_arguments() {
        let with = |op: &str, argument: &[i64]| {
            let draft = x(&[1, 3, 4]).i64("a", argument);
            of(draft.node(op, &["x", "a"], &["y"]))
        };
        assert_eq!(with("Reshape", &[0, -1]), Some(vec![1, 12]));
        assert_eq!(with("Reshape", &[5, -1]), None);
        assert_eq!(with("Squeeze", &[-3]), Some(vec![3, 4]));
        assert_eq!(with("Unsqueeze", &[0, -1]), Some(vec![1, 1, 3, 4, 1]));
        assert_eq!(with("Expand", &[2, 1, 1]), Some(vec![2, 3, 4]));
        assert_eq!(with("Tile", &[1, 2, 1 << 62]), None);
        assert_eq!(with("ReduceSum", &[1]), Some(vec![1, 1, 4]));
        assert_eq!(with("Gather", &[0, 0]), Some(vec![2, 3, 4]));
        let slice = x(&[1, 3, 9]).i64("from", &[-1]).i64("to", &[i64::MIN]);
        let slice = slice.i64("axis", &[2]).i64("step", &[-2]);
        let slice = slice.node("Slice", &["x", "from", "to", "axis", "step"], &["y"]);
        assert_eq!(of(slice), Some(vec![1, 3, 5]));
    }

    #[test]
    fn products_broadcast_what_is_ahead() {
        let product = |a: &[usize], b: &[usize]| {
            let draft = x(a).input("b", ElementType::F32, b);
            of(draft.node("MatMul", &["x", "b"], &["y"]))
        };
        assert_eq!(product(&[1, 2, 3], &[3, 4]), Some(vec![1, 2, 4]));
        assert_eq!(product(&[3], &[5, 3, 4]), Some(vec![5, 4]));
        assert_eq!(product(&[2, 3], &[3]), Some(vec![2]));
        assert_eq!(product(&[2, 3], &[2, 3]), None);
    }
}
