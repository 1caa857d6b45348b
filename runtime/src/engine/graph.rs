//! Reads an ONNX protobuf before tract does, to refuse with a message what tract would refuse
//! without one, panic on, or take for something else.
//!
//! It looks at declarations only: inputs, outputs, initialisers, operators. What the graph
//! computes is tract's business.

use std::collections::HashSet;

use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dim;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

use crate::error::LoadError;

/// Operators of other domains are somebody's own, whatever their name.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];
/// Unsupported operators named in one message.
const NAMED: usize = 8;
/// Highest axis that a node may name, and most axes of any value. The library reserves room for
/// as many axes as one says, and a reservation that fails ends the process.
pub(super) const MAX_AXIS: u64 = 64;

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

/// Checks the declarations of `model`, in which no value may be larger than `limit` bytes.
pub(super) fn inspect(
    model: &ModelProto,
    onnx: &Onnx,
    engine: &'static str,
    limit: u64,
) -> Result<Declared, LoadError> {
    let graph = model.graph.as_ref().ok_or(LoadError::NoGraph)?;
    each_tensor(graph, &|tensor| {
        refuse_external_tensor(tensor)?;
        refuse_large(&tensor.name, tensor.data_type, &tensor.dims, limit)
    })?;

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
    each_attribute(graph, &|node, attribute| {
        refuse_attribute(node, attribute, limit)
    })?;
    refuse_large_input(input, limit)?;
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

/// Calls `f` with each tensor that `graph` holds, at any depth.
fn each_tensor(
    graph: &GraphProto,
    f: &dyn Fn(&TensorProto) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let sparse = graph
        .sparse_initializer
        .iter()
        .flat_map(|s| s.values.iter().chain(&s.indices));
    graph.initializer.iter().chain(sparse).try_for_each(f)?;
    for attribute in graph.node.iter().flat_map(|n| &n.attribute) {
        let mut tensors = attribute.t.iter().chain(&attribute.tensors);
        tensors.try_for_each(f)?;
        let mut inner = attribute.g.iter().chain(&attribute.graphs);
        inner.try_for_each(|g| each_tensor(g, f))?;
    }
    Ok(())
}

/// Calls `f` with each attribute of each node, at any depth.
fn each_attribute(
    graph: &GraphProto,
    f: &dyn Fn(&NodeProto, &AttributeProto) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    for node in &graph.node {
        for attribute in &node.attribute {
            f(node, attribute)?;
            let mut inner = attribute.g.iter().chain(&attribute.graphs);
            inner.try_for_each(|g| each_attribute(g, f))?;
        }
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
        if !known {
            found.push(describe(node));
        }
        let inner = node
            .attribute
            .iter()
            .flat_map(|a| a.g.iter().chain(&a.graphs));
        inner.for_each(|g| collect_unsupported(g, onnx, found));
    }
}

fn refuse_attribute(
    node: &NodeProto,
    attribute: &AttributeProto,
    limit: u64,
) -> Result<(), LoadError> {
    let refuse = |why| {
        Err(LoadError::Attribute {
            node: describe(node),
            attribute: attribute.name.clone(),
            why,
        })
    };
    if matches!(attribute.name.as_str(), "axis" | "axes" | "perm") {
        let mut named = attribute.ints.iter().chain([&attribute.i]);
        if named.any(|axis| axis.unsigned_abs() > MAX_AXIS) {
            return refuse("names an axis that no tensor has");
        }
    }
    if attribute.name == "perm" && !is_permutation(&attribute.ints) {
        return refuse("does not name each axis once");
    }
    // The library walks over each place of a window.
    let window = attribute.ints.iter().map(|size| size.unsigned_abs().max(1));
    if attribute.name == "kernel_shape" && window.fold(1, u64::saturating_mul) > limit {
        return refuse("is larger than any value of the graph may be");
    }
    Ok(())
}

/// The library follows each axis until it comes back to it, in memory without end where it
/// never does.
fn is_permutation(axes: &[i64]) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.iter().zip(0..).all(|(axis, place)| *axis == place)
}

fn refuse_large_input(input: &ValueInfoProto, limit: u64) -> Result<(), LoadError> {
    let Some(Type::TensorType(tensor)) = input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Ok(());
    };
    let dims = tensor.shape.iter().flat_map(|shape| &shape.dim);
    let sizes: Vec<i64> = dims
        .map(|dim| match &dim.value {
            Some(Dim::DimValue(size)) if *size > 0 => *size,
            // The first axis may be open and becomes one.
            _ => 1,
        })
        .collect();
    refuse_large(&input.name, tensor.elem_type, &sizes, limit)
}

/// Sizes are declared in a few bytes, and room is made for them before data are looked at.
fn refuse_large(name: &str, element: i32, dims: &[i64], limit: u64) -> Result<(), LoadError> {
    let item = match DataType::try_from(element) {
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64 | DataType::Complex64) => 8,
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
        Ok(DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16) => 2,
        _ => 1,
    };
    // A negative size is none that a tensor can have.
    let sizes = dims.iter().map(|&d| u64::try_from(d).unwrap_or(u64::MAX));
    let bytes = sizes.fold(item, u64::saturating_mul);
    if bytes > limit {
        return Err(LoadError::ValueTooLarge {
            node: name.to_owned(),
            bytes,
            limit,
        });
    }
    Ok(())
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
