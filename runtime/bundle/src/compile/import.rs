//! From the bytes of an ONNX file to a [`Graph`].
//!
//! What is refused here: data outside the file, functions of the model's own, sparse and
//! string constants, names that are made twice or never. `Constant` nodes become constants,
//! and nodes are put in topological order, since some exporters do not. [`inline()`] reads the
//! graph of a branch into the graph around it.

mod tensor;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use prost::Message as _;
use tensor::array;

use super::array::{Array, Data, ElementType};
use super::error::CompileError;
use super::graph::{Attribute, Graph, MOST_AXES, Node, ValueId};
use super::proto::{
    AttributeProto, DimensionValue, GraphProto, ModelProto, NodeProto, ValueInfoProto, attribute,
};

/// Reads a model.
///
/// # Errors
/// [`CompileError`] of what is not ONNX, breaks its rules or is not taken.
pub fn import(model: &[u8]) -> Result<Graph, CompileError> {
    let model = ModelProto::decode(model).map_err(CompileError::NotOnnx)?;
    if let Some(function) = model.functions.first() {
        return Err(CompileError::unsupported(
            format!("function \"{}\"", function.name),
            "the model defines operators of its own",
            "inline them with onnx.inliner.inline_local_functions",
        ));
    }
    let proto = model
        .graph
        .ok_or_else(|| CompileError::Invalid("it has no graph".to_owned()))?;
    let mut graph = Graph::default();
    for import in model.opset_import {
        match import.domain.as_str() {
            "" | "ai.onnx" => graph.opset = import.version,
            _ => {
                graph.domains.insert(import.domain, import.version);
            }
        }
    }
    if graph.opset < 1 {
        return Err(CompileError::Invalid(
            "it does not say which operator set it uses".to_owned(),
        ));
    }
    let body = Importer::new(&mut graph, false).run(proto)?;
    graph.nodes = body.nodes;
    graph.outputs = body.outputs;
    if graph.outputs.is_empty() {
        return Err(CompileError::Invalid("it has no output".to_owned()));
    }
    Ok(graph)
}

/// What a graph is made of beside its values.
pub(super) struct Body {
    /// In topological order.
    pub(super) nodes: Vec<Node>,
    /// What it gives.
    pub(super) outputs: Vec<ValueId>,
}

/// Reads the graph of a branch into `graph`, where its values get names of their own. On an
/// error values may have been added that nothing reads.
pub(super) fn inline(graph: &mut Graph, proto: GraphProto) -> Result<Body, CompileError> {
    if !proto.input.is_empty() {
        return Err(CompileError::Invalid("a branch takes inputs".to_owned()));
    }
    Importer::new(graph, true).run(proto)
}

struct Importer<'g> {
    graph: &'g mut Graph,
    /// What this graph's own names mean.
    scope: HashMap<String, ValueId>,
    /// Whether there is a graph around this one, whose values may be read and hidden.
    is_inner: bool,
}

impl<'g> Importer<'g> {
    fn new(graph: &'g mut Graph, is_inner: bool) -> Self {
        Self {
            graph,
            scope: HashMap::new(),
            is_inner,
        }
    }

    fn run(mut self, proto: GraphProto) -> Result<Body, CompileError> {
        if !proto.sparse_initializer.is_empty() {
            return Err(CompileError::unsupported(
                "a sparse constant",
                "sparse tensors are not taken",
                "store it as a dense tensor",
            ));
        }
        for tensor in proto.initializer {
            let id = self.declare(&tensor.name)?;
            let array = array(tensor)?;
            self.graph.set_constant(id, array);
        }
        for input in proto.input {
            // Files of old versions list constants among the inputs.
            match self.scope.get(&input.name).copied() {
                Some(known) => self.describe(known, &input),
                None => {
                    let id = self.declare(&input.name)?;
                    self.describe(id, &input);
                    self.graph.inputs.push(id);
                }
            }
        }
        let protos = self.constants_out_of(proto.node)?;
        for node in &protos {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                self.declare(output)?;
            }
        }
        let mut nodes = Vec::with_capacity(protos.len());
        for node in protos {
            nodes.push(self.node(node)?);
        }
        let mut outputs = Vec::with_capacity(proto.output.len());
        for output in &proto.output {
            let id = self.wanted(&output.name, "the graph's outputs")?;
            self.describe(id, output);
            outputs.push(id);
        }
        for info in &proto.value_info {
            if let Some(id) = self.scope.get(&info.name).copied() {
                self.describe(id, info);
            }
        }
        let nodes = sorted(nodes)?;
        Ok(Body { nodes, outputs })
    }

    fn declare(&mut self, name: &str) -> Result<ValueId, CompileError> {
        if name.is_empty() || self.scope.contains_key(name) {
            return Err(CompileError::Invalid(format!(
                "the value \"{name}\" is made twice or has no name"
            )));
        }
        let id = self.graph.add_value(name);
        self.scope.insert(name.to_owned(), id);
        Ok(id)
    }

    fn find(&self, name: &str) -> Option<ValueId> {
        let around = || self.graph.find(name).filter(|_| self.is_inner);
        self.scope.get(name).copied().or_else(around)
    }

    fn wanted(&self, name: &str, by: &str) -> Result<ValueId, CompileError> {
        self.find(name).ok_or_else(|| {
            CompileError::Invalid(format!("{by} read \"{name}\", which nothing makes"))
        })
    }

    fn describe(&mut self, id: ValueId, info: &ValueInfoProto) {
        let Some(tensor) = info.kind.as_ref().and_then(|k| k.tensor.as_ref()) else {
            return;
        };
        let value = self.graph.value_mut(id);
        if value.constant.is_some() {
            return;
        }
        let rank = tensor.shape.as_ref().map_or(0, |shape| shape.dim.len());
        if rank > MOST_AXES {
            return;
        }
        let named = |value: &Option<DimensionValue>| match value {
            Some(DimensionValue::Name(name)) if !name.is_empty() => Some(name.clone()),
            _ => None,
        };
        let axes = tensor.shape.iter().flat_map(|shape| &shape.dim);
        value.axis_names = axes.map(|d| named(&d.value)).collect();
        value.element = Some(ElementType(tensor.elem_type)).filter(|e| e.0 != 0);
        value.shape = tensor.shape.as_ref().map(|shape| {
            let axis = |value: &Option<DimensionValue>| match value {
                Some(DimensionValue::Size(size)) => usize::try_from(*size).ok().filter(|n| *n > 0),
                _ => None,
            };
            shape.dim.iter().map(|d| axis(&d.value)).collect()
        });
    }

    /// Makes constants of `Constant` nodes and gives the other ones.
    fn constants_out_of(&mut self, nodes: Vec<NodeProto>) -> Result<Vec<NodeProto>, CompileError> {
        let mut others = Vec::with_capacity(nodes.len());
        for node in nodes {
            let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
            if !standard || node.op_type != "Constant" {
                others.push(node);
                continue;
            }
            let [name] = node.output.as_slice() else {
                return Err(CompileError::Invalid(
                    "a Constant has one output".to_owned(),
                ));
            };
            let name = name.clone();
            let value = constant_of(node)?;
            let id = self.declare(&name)?;
            self.graph.set_constant(id, value);
        }
        Ok(others)
    }

    fn node(&self, proto: NodeProto) -> Result<Node, CompileError> {
        let name = match (proto.name.as_str(), proto.output.first()) {
            ("", Some(output)) => output.clone(),
            _ => proto.name.clone(),
        };
        let by = format!("inputs of {} \"{name}\"", proto.op_type);
        let places = |names: &[String]| -> Result<Vec<Option<ValueId>>, CompileError> {
            let mut places = Vec::with_capacity(names.len());
            for name in names {
                places.push(match name.as_str() {
                    "" => None,
                    name => Some(self.wanted(name, &by)?),
                });
            }
            Ok(places)
        };
        let mut inputs = places(&proto.input)?;
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let outputs = places(&proto.output)?;
        let mut attributes = BTreeMap::new();
        let mut captures = BTreeSet::new();
        for attribute in proto.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                self.captured(inner, &mut Vec::new(), &mut captures)?;
            }
            let name = attribute.name.clone();
            attributes.insert(name, value_of(attribute, &proto.op_type)?);
        }
        Ok(Node {
            name,
            domain: match proto.domain.as_str() {
                "ai.onnx" => String::new(),
                _ => proto.domain,
            },
            op: proto.op_type,
            inputs,
            outputs,
            attributes,
            captures: captures.into_iter().collect(),
        })
    }

    /// What `inner` and the graphs inside it read from this graph. Each of `hidden` are the
    /// names that one of the graphs on the way defines itself.
    fn captured<'p>(
        &self,
        inner: &'p GraphProto,
        hidden: &mut Vec<HashSet<&'p str>>,
        captures: &mut BTreeSet<ValueId>,
    ) -> Result<(), CompileError> {
        let inputs = inner.input.iter().map(|i| &i.name);
        let constants = inner.initializer.iter().map(|i| &i.name);
        let made = inner.node.iter().flat_map(|n| &n.output);
        let own = inputs.chain(constants).chain(made);
        hidden.push(own.map(String::as_str).collect());
        let reads = inner.node.iter().flat_map(|n| &n.input);
        for name in reads.chain(inner.output.iter().map(|o| &o.name)) {
            if hidden.iter().any(|own| own.contains(name.as_str())) {
                continue;
            }
            let Some(id) = self.find(name) else {
                continue;
            };
            if self.graph.name(id) != name {
                return Err(CompileError::Invalid(format!(
                    "two values that inner graphs read are called \"{name}\""
                )));
            }
            captures.insert(id);
        }
        for attribute in inner.node.iter().flat_map(|n| &n.attribute) {
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.captured(graph, hidden, captures)?;
            }
        }
        hidden.pop();
        Ok(())
    }
}

/// The nodes in topological order, otherwise in theirs.
fn sorted(nodes: Vec<Node>) -> Result<Vec<Node>, CompileError> {
    let all = nodes.iter().enumerate();
    let made = all.flat_map(|(place, n)| n.outputs.iter().flatten().map(move |v| (*v, place)));
    let makers: HashMap<ValueId, usize> = made.collect();
    let mut waits: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut wakes: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        let before: HashSet<usize> = node
            .reads()
            .filter_map(|v| makers.get(&v).copied())
            .collect();
        for maker in &before {
            wakes[*maker].push(place);
        }
        waits.push(before.len());
    }
    let mut ready: BTreeSet<usize> = (0..nodes.len()).filter(|&n| waits[n] == 0).collect();
    let mut slots: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let mut sorted = Vec::with_capacity(slots.len());
    while let Some(place) = ready.pop_first() {
        sorted.extend(slots[place].take());
        for &next in &wakes[place] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.insert(next);
            }
        }
    }
    match slots.into_iter().flatten().next() {
        Some(node) => Err(CompileError::Invalid(format!(
            "{} needs its own output",
            node.title()
        ))),
        None => Ok(sorted),
    }
}

fn constant_of(node: NodeProto) -> Result<Array, CompileError> {
    let name = node.output.first().cloned().unwrap_or_default();
    let refused = |what: &str| {
        CompileError::unsupported(
            format!("Constant \"{name}\""),
            format!("it holds {what}"),
            "store it as a dense tensor of numbers",
        )
    };
    let Some(attribute) = node.attribute.into_iter().next() else {
        return Err(CompileError::Invalid(format!(
            "Constant \"{name}\" has no value"
        )));
    };
    let what = attribute.name.clone();
    match value_of(attribute, "Constant")? {
        Attribute::Tensor(array) => Ok(array),
        Attribute::Float(v) => Ok(Array::scalar(v)),
        Attribute::Floats(v) => Ok(Array::row(v)),
        Attribute::Ints(v) => Ok(Array::indices(v)),
        Attribute::Int(v) => {
            Array::new(Vec::new(), Data::I64(vec![v])).ok_or_else(|| refused(&what))
        }
        _ => Err(refused(&what)),
    }
}

fn value_of(proto: AttributeProto, op: &str) -> Result<Attribute, CompileError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(match proto.kind {
        attribute::FLOAT => Attribute::Float(proto.f),
        attribute::INT => Attribute::Int(proto.i),
        attribute::STRING => Attribute::String(text(proto.s)),
        attribute::FLOATS => Attribute::Floats(proto.floats),
        attribute::INTS => Attribute::Ints(proto.ints),
        attribute::STRINGS => Attribute::Strings(proto.strings.into_iter().map(text).collect()),
        attribute::TENSOR => match proto.t {
            Some(tensor) => Attribute::Tensor(array(tensor)?),
            None => Attribute::Ints(Vec::new()),
        },
        attribute::GRAPH => Attribute::Graph(Box::new(proto.g.unwrap_or_default())),
        _ => {
            return Err(CompileError::unsupported(
                format!("attribute \"{}\" of {op}", proto.name),
                "its type is not taken",
                "export the model with plain attributes",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::proto::OperatorSetProto;

    fn named(name: &str) -> ValueInfoProto {
        ValueInfoProto {
            name: name.to_owned(),
            kind: None,
        }
    }

    fn node(op: &str, input: &str, output: &str) -> NodeProto {
        NodeProto {
            op_type: op.to_owned(),
            input: vec![input.to_owned()],
            output: vec![output.to_owned()],
            ..NodeProto::default()
        }
    }

    fn read(nodes: Vec<NodeProto>) -> Result<Graph, String> {
        let graph = GraphProto {
            node: nodes,
            input: vec![named("x")],
            output: vec![named("y")],
            ..GraphProto::default()
        };
        let model = ModelProto {
            graph: Some(graph),
            opset_import: vec![OperatorSetProto {
                domain: String::new(),
                version: 13,
            }],
            ..ModelProto::default()
        };
        import(&model.encode_to_vec()).map_err(|e| e.to_string())
    }

    #[test]
    fn nodes_are_put_in_order() {
        let graph = read(vec![node("Abs", "a", "y"), node("Relu", "x", "a")]).unwrap();
        let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op.as_str()).collect();
        assert_eq!(ops, ["Relu", "Abs"]);
    }

    #[test]
    fn names_and_orders_that_cannot_be_are_refused() {
        let invalid = |nodes| {
            read(nodes)
                .unwrap_err()
                .replace("the model is not valid ONNX: ", "")
        };
        assert_eq!(
            invalid(vec![node("Abs", "x", "y"), node("Abs", "x", "y")]),
            "the value \"y\" is made twice or has no name"
        );
        assert_eq!(
            invalid(vec![node("Abs", "z", "y")]),
            "inputs of Abs \"y\" read \"z\", which nothing makes"
        );
        assert_eq!(
            invalid(vec![node("Abs", "a", "y"), node("Abs", "y", "a")]),
            "Abs \"y\" needs its own output"
        );
    }

    #[test]
    fn what_a_branch_reads_from_outside_is_known() {
        let inner = GraphProto {
            node: vec![node("Abs", "a", "r"), node("Relu", "r", "s")],
            output: vec![named("s")],
            ..GraphProto::default()
        };
        let mut outer = node("If", "x", "y");
        outer.attribute.push(AttributeProto {
            name: "then_branch".to_owned(),
            kind: attribute::GRAPH,
            g: Some(inner),
            ..AttributeProto::default()
        });
        let graph = read(vec![node("Neg", "x", "a"), node("Exp", "x", "r"), outer]).unwrap();
        let read: Vec<&str> = graph.nodes[2]
            .captures
            .iter()
            .map(|id| graph.name(*id))
            .collect();
        assert_eq!(read, ["a"]);
    }
}
