//! Single operators for tests.

use super::super::array::{Array, Data};
use super::super::graph::{Attribute, Node};
use super::{Call, kernel};
use std::collections::BTreeMap;

pub(super) use Attribute::{Float, Int, Ints};

/// What the operator gives first, by operator set 13.
pub(super) fn apply(
    op: &str,
    inputs: &[&Array],
    attributes: &[(&str, Attribute)],
) -> Result<Array, String> {
    apply_at(13, op, inputs, attributes)
}

/// The same by another operator set.
pub(super) fn apply_at(
    opset: i64,
    op: &str,
    inputs: &[&Array],
    attributes: &[(&str, Attribute)],
) -> Result<Array, String> {
    let given = inputs.iter().map(|a| Some(*a)).collect();
    let all = apply_all(opset, op, given, 1, attributes)?;
    Ok(all.into_iter().next().unwrap())
}

/// All that the operator gives where `outputs` are wanted.
pub(super) fn apply_all(
    opset: i64,
    op: &str,
    inputs: Vec<Option<&Array>>,
    outputs: usize,
    attributes: &[(&str, Attribute)],
) -> Result<Vec<Array>, String> {
    let mut graph = super::Graph::default();
    let made = (0..outputs).map(|_| Some(graph.add_value("y"))).collect();
    let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
    let named = attributes.iter().cloned();
    let node = Node {
        name: op.to_owned(),
        domain: domain.to_owned(),
        op: op.to_owned(),
        inputs: Vec::new(),
        outputs: made,
        attributes: named
            .map(|(n, a)| (n.to_owned(), a))
            .collect::<BTreeMap<_, _>>(),
        captures: Vec::new(),
    };
    let call = Call {
        node: &node,
        opset,
        inputs,
    };
    kernel(&node).unwrap()(&call)
}

pub(super) fn text(value: &str) -> Attribute {
    Attribute::String(value.to_owned())
}

pub(super) fn f32s(shape: &[usize], values: &[f32]) -> Array {
    Array::new(shape.to_vec(), Data::F32(values.to_vec())).unwrap()
}

/// 1, 2, 3 and so on.
pub(super) fn count(shape: &[usize]) -> Array {
    let elements = shape.iter().product::<usize>();
    let values = (1..=elements).map(|n| n as f32).collect();
    Array::new(shape.to_vec(), Data::F32(values)).unwrap()
}

pub(super) fn i64s(values: &[i64]) -> Array {
    Array::indices(values.to_vec())
}

/// The elements of a result, which must have this shape.
pub(super) fn values(result: &Result<Array, String>, shape: &[usize]) -> Vec<f64> {
    let array = result.as_ref().unwrap();
    assert_eq!(array.shape(), shape);
    array.to_f64().unwrap()
}
