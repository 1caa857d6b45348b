//! From a [`Graph`] to the bytes of an ONNX file.
//!
//! The same graph gives the same bytes. Names of values are kept, because a manifest and
//! golden vectors refer to them.

use prost::Message as _;

use super::array::{Array, Data};
use super::graph::{Attribute, Graph, Node, Value, ValueId};
use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
    attribute,
};

/// The first version of the file format that knows operator sets up to 15; readers of newer
/// ones read it.
const IR_VERSION: i64 = 8;
/// Later operator sets were published with version 10 of the file format or before.
const IR_VERSION_LATER: i64 = 10;

/// Writes `graph` as a model.
pub fn export(graph: &Graph) -> Vec<u8> {
    let import = |domain: &str, version| OperatorSetProto {
        domain: domain.to_owned(),
        version,
    };
    let mut opset_import = vec![import("", graph.opset)];
    let used = |domain: &str| graph.nodes.iter().any(|n| n.domain == domain);
    let others = graph.domains.iter().filter(|(domain, _)| used(domain));
    opset_import.extend(others.map(|(domain, version)| import(domain, *version)));
    let info = |id: &ValueId| value_info(graph.value(*id));
    ModelProto {
        ir_version: match graph.opset {
            ..=15 => IR_VERSION,
            _ => IR_VERSION_LATER,
        },
        producer_name: "drover".to_owned(),
        graph: Some(GraphProto {
            node: graph.nodes.iter().map(|n| node(graph, n)).collect(),
            name: "model".to_owned(),
            initializer: graph
                .constants()
                .map(|(id, array)| tensor(graph.name(id), array))
                .collect(),
            input: graph.inputs.iter().map(info).collect(),
            output: graph.outputs.iter().map(info).collect(),
            value_info: Vec::new(),
            sparse_initializer: Vec::new(),
        }),
        opset_import,
        functions: Vec::new(),
    }
    .encode_to_vec()
}

fn value_info(value: &Value) -> ValueInfoProto {
    let shape = value.shape.as_ref().map(|axes| TensorShapeProto {
        dim: axes
            .iter()
            .map(|axis| DimensionProto {
                value: axis.map(|size| DimensionValue::Size(size as i64)),
            })
            .collect(),
    });
    ValueInfoProto {
        name: value.name.clone(),
        kind: value.element.map(|element| TypeProto {
            tensor: Some(TensorTypeProto {
                elem_type: element.0,
                shape,
            }),
        }),
    }
}

fn node(graph: &Graph, node: &Node) -> NodeProto {
    let names = |ids: &[Option<ValueId>]| {
        let name = |id: &Option<ValueId>| id.map(|id| graph.name(id).to_owned());
        ids.iter().map(|id| name(id).unwrap_or_default()).collect()
    };
    NodeProto {
        input: names(&node.inputs),
        output: names(&node.outputs),
        name: node.name.clone(),
        op_type: node.op.clone(),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| attribute_proto(name, value))
            .collect(),
        domain: node.domain.clone(),
    }
}

fn attribute_proto(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto {
        name: name.to_owned(),
        ..AttributeProto::default()
    };
    proto.kind = match value {
        Attribute::Float(v) => {
            proto.f = *v;
            attribute::FLOAT
        }
        Attribute::Int(v) => {
            proto.i = *v;
            attribute::INT
        }
        Attribute::String(v) => {
            proto.s = v.clone().into_bytes();
            attribute::STRING
        }
        Attribute::Tensor(v) => {
            proto.t = Some(tensor("", v));
            attribute::TENSOR
        }
        Attribute::Floats(v) => {
            proto.floats.clone_from(v);
            attribute::FLOATS
        }
        Attribute::Ints(v) => {
            proto.ints.clone_from(v);
            attribute::INTS
        }
        Attribute::Strings(v) => {
            proto.strings = v.iter().map(|s| s.clone().into_bytes()).collect();
            attribute::STRINGS
        }
        Attribute::Graph(v) => {
            proto.g = Some((**v).clone());
            attribute::GRAPH
        }
    };
    proto
}

fn tensor(name: &str, array: &Array) -> TensorProto {
    fn raw<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&v| bytes(v)).collect()
    }
    TensorProto {
        dims: array.shape().iter().map(|&d| d as i64).collect(),
        data_type: array.element().0,
        name: name.to_owned(),
        raw_data: match array.data() {
            Data::F32(v) => raw(v, f32::to_le_bytes),
            Data::F64(v) => raw(v, f64::to_le_bytes),
            Data::I8(v) => raw(v, i8::to_le_bytes),
            Data::U8(v) | Data::Other { bytes: v, .. } => v.clone(),
            Data::I16(v) => raw(v, i16::to_le_bytes),
            Data::U16(v) => raw(v, u16::to_le_bytes),
            Data::I32(v) => raw(v, i32::to_le_bytes),
            Data::U32(v) => raw(v, u32::to_le_bytes),
            Data::I64(v) => raw(v, i64::to_le_bytes),
            Data::U64(v) => raw(v, u64::to_le_bytes),
            Data::Bool(v) => v.iter().map(|&b| u8::from(b)).collect(),
        },
        ..TensorProto::default()
    }
}
