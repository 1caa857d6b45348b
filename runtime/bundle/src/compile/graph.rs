//! The graph that passes rewrite: values, the nodes that make them, and constants.
//!
//! Nodes keep ONNX's operator names and attributes, so that what no pass knows goes through
//! untouched. Every value is made by one node at most; `nodes` is in topological order after
//! every pass. Values are never removed, [`Graph::sweep`] drops nodes and constants that
//! nothing reads.

use std::collections::{BTreeMap, HashMap};

use super::array::{Array, ElementType};
use super::proto::GraphProto;

/// A tensor of more axes is a mistake or an attack: many nodes may read it, and each would look
/// at every axis.
pub const MOST_AXES: usize = 64;

/// Operators that mean something else with fewer outputs.
const COUNTING: [&str; 4] = ["If", "Loop", "Scan", "Split"];

/// Names a value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(usize);

/// Something that nodes read and make.
#[derive(Clone, Debug)]
pub struct Value {
    /// Unique in its graph.
    pub name: String,
    /// Element type where the file or a pass says it.
    pub element: Option<ElementType>,
    /// Size of each axis where it is said; `None` for an open axis.
    pub shape: Option<Vec<Option<usize>>>,
    /// What the file calls each axis, where it does; empty where it says nothing at all.
    pub axis_names: Vec<Option<String>>,
    /// The elements of a constant.
    pub constant: Option<Array>,
}

/// One use of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// For messages; the file's, or that of the node this one was made of.
    pub name: String,
    /// Empty for ONNX's own operators.
    pub domain: String,
    /// Operator.
    pub op: String,
    /// In the operator's order; `None` where an optional input is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// In the operator's order; `None` where an optional output is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// By name, sorted.
    pub attributes: BTreeMap<String, Attribute>,
    /// Values that graphs inside this node read from outside.
    pub captures: Vec<ValueId>,
}

/// A named constant of a node.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "ONNX's own names of attribute types")]
pub enum Attribute {
    Float(f32),
    Int(i64),
    String(String),
    Tensor(Array),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strings(Vec<String>),
    /// A graph inside the node, as the file has it.
    Graph(Box<GraphProto>),
}

/// A model's graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Version of ONNX's own operators.
    pub opset: i64,
    /// Versions of other domains.
    pub domains: BTreeMap<String, i64>,
    /// In topological order.
    pub nodes: Vec<Node>,
    /// What the caller gives.
    pub inputs: Vec<ValueId>,
    /// What the caller gets.
    pub outputs: Vec<ValueId>,
    values: Vec<Value>,
    names: HashMap<String, ValueId>,
    /// The last number that was put behind a name that was taken.
    numbers: HashMap<String, u32>,
}

impl Node {
    /// A node of ONNX's own operator `op` without attributes.
    pub fn new(name: &str, op: &str, inputs: &[ValueId], output: ValueId) -> Self {
        Self {
            name: name.to_owned(),
            domain: String::new(),
            op: op.to_owned(),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            attributes: BTreeMap::new(),
            captures: Vec::new(),
        }
    }

    /// The same node with one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, attribute: Attribute) -> Self {
        self.attributes.insert(name.to_owned(), attribute);
        self
    }

    /// Whether this is ONNX's own operator `op`.
    pub fn is(&self, op: &str) -> bool {
        self.is_standard() && self.op == op
    }

    /// Whether the operator is one of ONNX's own.
    pub fn is_standard(&self) -> bool {
        matches!(self.domain.as_str(), "" | "ai.onnx")
    }

    /// Input `place`; nothing when it is left out.
    pub fn input(&self, place: usize) -> Option<ValueId> {
        self.inputs.get(place).copied().flatten()
    }

    /// The first output; nothing when nobody wants it.
    pub fn output(&self) -> Option<ValueId> {
        self.outputs.first().copied().flatten()
    }

    /// The integer attribute `name`.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(v)) => Some(*v),
            _ => None,
        }
    }

    /// The integer list `name`.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// The float attribute `name`.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(v)) => Some(*v),
            _ => None,
        }
    }

    /// The text attribute `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::String(v)) => Some(v),
            _ => None,
        }
    }

    /// Everything the node reads, what its inner graphs read included.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> + '_ {
        let inputs = self.inputs.iter().copied().flatten();
        inputs.chain(self.captures.iter().copied())
    }

    /// `Conv` or `com.microsoft.QGemm`, with the node's name, for messages.
    pub fn title(&self) -> String {
        match self.domain.as_str() {
            "" => format!("{} \"{}\"", self.op, self.name),
            domain => format!("{domain}.{} \"{}\"", self.op, self.name),
        }
    }
}

impl Graph {
    /// Adds a value of this name, or of this name with a number behind where it is taken.
    pub fn add_value(&mut self, name: &str) -> ValueId {
        let mut unique = name.to_owned();
        while self.names.contains_key(&unique) {
            let count = self.numbers.entry(name.to_owned()).or_insert(1);
            *count += 1;
            unique = format!("{name}.{count}");
        }
        let id = ValueId(self.values.len());
        self.names.insert(unique.clone(), id);
        self.values.push(Value {
            name: unique,
            element: None,
            shape: None,
            axis_names: Vec::new(),
            constant: None,
        });
        id
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: &str, array: Array) -> ValueId {
        let id = self.add_value(name);
        self.set_constant(id, array);
        id
    }

    /// Makes a constant of `id`, with its element type and shape.
    pub fn set_constant(&mut self, id: ValueId, array: Array) {
        let value = &mut self.values[id.0];
        value.element = Some(array.element());
        value.shape = Some(array.shape().iter().copied().map(Some).collect());
        value.constant = Some(array);
    }

    /// Every value there is.
    pub fn ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len()).map(ValueId)
    }

    /// What is known of `id`.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0]
    }

    /// The same, to be changed. The name must stay.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0]
    }

    /// The elements of `id` if it is a constant.
    pub fn constant(&self, id: ValueId) -> Option<&Array> {
        self.values[id.0].constant.as_ref()
    }

    /// Name of `id`.
    pub fn name(&self, id: ValueId) -> &str {
        &self.values[id.0].name
    }

    /// The value of this name.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.names.get(name).copied()
    }

    /// The place in `nodes` of each value's maker.
    pub fn makers(&self) -> HashMap<ValueId, usize> {
        let all = self.nodes.iter().enumerate();
        all.flat_map(|(place, n)| n.outputs.iter().flatten().map(move |v| (*v, place)))
            .collect()
    }

    /// The places in `nodes` of everything that reads a value. A graph output is no reader.
    pub fn readers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut readers: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            for value in node.reads() {
                let places = readers.entry(value).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        readers
    }

    /// Lets every reader of `old`, and the graph's outputs, read `new` instead. Inner graphs
    /// name what they read, so a captured value is left to them.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        for input in self.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
            if *input == Some(old) {
                *input = Some(new);
            }
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Drops nodes of which nothing is read, and the elements of constants that nobody reads.
    /// Gives the number of nodes that went.
    pub fn sweep(&mut self) -> usize {
        let mut wanted = vec![false; self.values.len()];
        for output in &self.outputs {
            wanted[output.0] = true;
        }
        let before = self.nodes.len();
        let mut kept = Vec::with_capacity(before);
        for mut node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if !node.outputs.iter().flatten().any(|o| wanted[o.0]) {
                continue;
            }
            for read in node.reads() {
                wanted[read.0] = true;
            }
            // An optional output in the last places that nobody reads need not be made. Some
            // operators, though, go by the number of their outputs.
            let counts = !node.is_standard() || COUNTING.contains(&node.op.as_str());
            while !counts
                && let Some(Some(last)) = node.outputs.last()
                && !wanted[last.0]
                && node.outputs.len() > 1
            {
                node.outputs.pop();
            }
            kept.push(node);
        }
        kept.reverse();
        self.nodes = kept;
        for (value, wanted) in self.values.iter_mut().zip(wanted) {
            if !wanted {
                value.constant = None;
            }
        }
        before - self.nodes.len()
    }

    /// Every constant that something reads, in the order of its making.
    pub fn constants(&self) -> impl Iterator<Item = (ValueId, &Array)> {
        let all = self.values.iter().enumerate();
        all.filter_map(|(place, v)| Some((ValueId(place), v.constant.as_ref()?)))
    }
}
