//! Reads an ONNX protobuf before tract does, to refuse with a message what tract would refuse
//! without one, panic on, or take for something else.
//!
//! It looks at declarations only: inputs, outputs, initialisers, operators. What the graph
//! computes is tract's business.

use std::collections::HashSet;

use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::DataLocation;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

use crate::error::LoadError;

/// Operators of other domains are somebody's own, whatever their name.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// Unsupported operators named in one message.
const NAMED: usize = 8;
/// Highest axis that a node may name. The library reserves room for as many axes as one says,
/// and a reservation that fails ends the process.
const MAX_AXIS: u64 = 64;

/// What the rest of the loader needs to know of a graph that may be loaded.
pub(super) struct Declared {
    /// Name of the one input.
    pub(super) input: String,
    /// Name of the first output.
    pub(super) output: String,
    /// How the first axis of the input is left open, if it is.
    pub(super) batch: Option<OpenAxis>,
}

/// A size that the graph does not say.
pub(super) enum OpenAxis {
    /// It has a name, which other tensors of the graph may use too.
    Named(String),
    /// It has none.
    Unnamed,
}

/// Checks the declarations of `model`.
pub(super) fn inspect(
    model: &ModelProto,
    onnx: &Onnx,
    engine: &'static str,
) -> Result<Declared, LoadError> {
    let graph = model.graph.as_ref().ok_or(LoadError::NoGraph)?;
    refuse_external_data(graph)?;

    let initialised: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<&ValueInfoProto> = graph
        .input
        .iter()
        .filter(|i| !initialised.contains(i.name.as_str()))
        .collect();
    let [input] = inputs.as_slice() else {
        let names = inputs.iter().map(|i| i.name.clone()).collect();
        return Err(LoadError::Inputs { names });
    };
    let output = graph.output.first().ok_or(LoadError::NoOutput)?;

    let mut nodes = Vec::new();
    collect_unsupported(graph, onnx, &mut nodes);
    if !nodes.is_empty() {
        return Err(LoadError::Operators { engine, nodes });
    }
    Ok(Declared {
        input: input.name.clone(),
        output: output.name.clone(),
        batch: open_batch(input)?,
    })
}

/// Refuses open sizes but that of the first axis, which is the batch.
fn open_batch(input: &ValueInfoProto) -> Result<Option<OpenAxis>, LoadError> {
    let Some(Type::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Ok(None);
    };
    let symbolic = |axis, symbol: &str| LoadError::Symbolic {
        tensor: format!("input \"{}\"", input.name),
        axis,
        symbol: symbol.to_owned(),
    };
    let Some(shape) = &tensor.shape else {
        return Err(symbolic(0, "no shape at all"));
    };
    let mut batch = None;
    for (axis, dim) in shape.dim.iter().enumerate() {
        let open = match &dim.value {
            Some(Dim::DimValue(size)) if *size > 0 => continue,
            Some(Dim::DimParam(name)) if !name.is_empty() => OpenAxis::Named(name.clone()),
            _ => OpenAxis::Unnamed,
        };
        if axis == 0 {
            batch = Some(open);
            continue;
        }
        return Err(match open {
            OpenAxis::Named(name) => symbolic(axis, &name),
            OpenAxis::Unnamed => symbolic(axis, "unnamed"),
        });
    }
    Ok(batch)
}

fn refuse_external_data(graph: &GraphProto) -> Result<(), LoadError> {
    let sparse = graph
        .sparse_initializer
        .iter()
        .flat_map(|s| s.values.iter().chain(&s.indices));
    graph
        .initializer
        .iter()
        .chain(sparse)
        .try_for_each(refuse_external_tensor)?;
    for attribute in graph.node.iter().flat_map(|n| &n.attribute) {
        attribute
            .t
            .iter()
            .chain(&attribute.tensors)
            .try_for_each(refuse_external_tensor)?;
        attribute
            .g
            .iter()
            .chain(&attribute.graphs)
            .try_for_each(refuse_external_data)?;
    }
    Ok(())
}

fn refuse_external_tensor(tensor: &TensorProto) -> Result<(), LoadError> {
    let external = tensor.data_location == Some(DataLocation::External as i32)
        || !tensor.external_data.is_empty();
    if external {
        return Err(LoadError::ExternalData {
            tensor: tensor.name.clone(),
        });
    }
    Ok(())
}

fn collect_unsupported(graph: &GraphProto, onnx: &Onnx, found: &mut Vec<String>) {
    for node in &graph.node {
        if found.len() >= NAMED {
            return;
        }
        let known = DOMAINS.contains(&node.domain.as_str())
            && onnx.op_register.0.contains_key(&node.op_type);
        if !known || !names_real_axes(node) {
            found.push(describe(node));
        }
        let inner = node
            .attribute
            .iter()
            .flat_map(|a| a.g.iter().chain(&a.graphs));
        inner.for_each(|g| collect_unsupported(g, onnx, found));
    }
}

fn names_real_axes(node: &NodeProto) -> bool {
    node.attribute
        .iter()
        .filter(|a| matches!(a.name.as_str(), "axis" | "axes" | "perm"))
        .flat_map(|a| a.ints.iter().chain([&a.i]))
        .all(|axis| axis.unsigned_abs() <= MAX_AXIS)
}

fn describe(node: &NodeProto) -> String {
    let name = match (node.name.as_str(), node.output.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    };
    match node.domain.as_str() {
        "" => format!("operator {} (node \"{name}\")", node.op_type),
        domain => format!("operator {domain}.{} (node \"{name}\")", node.op_type),
    }
}
