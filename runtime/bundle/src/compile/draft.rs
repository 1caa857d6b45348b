//! Graphs for tests, written down in a few lines.

use super::array::{Array, Data, ElementType};
use super::graph::{Attribute, Graph, Node, ValueId};

/// A graph in the making. Values are named by text and made when they are first named.
pub(crate) struct Draft {
    graph: Graph,
}

impl Draft {
    pub(crate) fn new(opset: i64) -> Self {
        let mut graph = Graph::default();
        graph.opset = opset;
        Self { graph }
    }

    fn value(&mut self, name: &str) -> ValueId {
        match self.graph.find(name) {
            Some(id) => id,
            None => self.graph.add_value(name),
        }
    }

    pub(crate) fn input(mut self, name: &str, element: ElementType, shape: &[usize]) -> Self {
        let id = self.value(name);
        let value = self.graph.value_mut(id);
        value.element = Some(element);
        value.shape = Some(shape.iter().copied().map(Some).collect());
        self.graph.inputs.push(id);
        self
    }

    pub(crate) fn constant(mut self, name: &str, array: Array) -> Self {
        let id = self.value(name);
        self.graph.set_constant(id, array);
        self
    }

    pub(crate) fn f32(self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let array = Array::new(shape.to_vec(), Data::F32(values.to_vec())).unwrap();
        self.constant(name, array)
    }

    pub(crate) fn i8(self, name: &str, shape: &[usize], values: &[i8]) -> Self {
        let array = Array::new(shape.to_vec(), Data::I8(values.to_vec())).unwrap();
        self.constant(name, array)
    }

    pub(crate) fn u8(self, name: &str, shape: &[usize], values: &[u8]) -> Self {
        let array = Array::new(shape.to_vec(), Data::U8(values.to_vec())).unwrap();
        self.constant(name, array)
    }

    pub(crate) fn i32(self, name: &str, shape: &[usize], values: &[i32]) -> Self {
        let array = Array::new(shape.to_vec(), Data::I32(values.to_vec())).unwrap();
        self.constant(name, array)
    }

    pub(crate) fn i64(self, name: &str, values: &[i64]) -> Self {
        self.constant(name, Array::indices(values.to_vec()))
    }

    /// A node `op`, or `domain.op`, of these inputs (empty for one that is left out).
    pub(crate) fn node(self, op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        self.node_with(op, inputs, outputs, &[])
    }

    pub(crate) fn node_with(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attribute)],
    ) -> Self {
        let (domain, op) = op.rsplit_once('.').unwrap_or(("", op));
        let mut places = |names: &[&str]| -> Vec<Option<ValueId>> {
            let place = |name: &&str| (!name.is_empty()).then(|| self.value(name));
            names.iter().map(place).collect()
        };
        let inputs = places(inputs);
        let made = places(outputs);
        if !domain.is_empty() {
            self.graph.domains.insert(domain.to_owned(), 1);
        }
        let named = attributes.iter().cloned();
        self.graph.nodes.push(Node {
            name: outputs.first().copied().unwrap_or_default().to_owned(),
            domain: domain.to_owned(),
            op: op.to_owned(),
            inputs,
            outputs: made,
            attributes: named.map(|(name, a)| (name.to_owned(), a)).collect(),
            captures: Vec::new(),
        });
        self
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        let id = self.value(name);
        self.graph.outputs.push(id);
        self
    }

    pub(crate) fn graph(self) -> Graph {
        self.graph
    }
}

/// Round trips through the file format keep the text of a graph.
#[test]
fn what_is_exported_is_imported_again() {
    let graph = Draft::new(13)
        .input("x", ElementType::F32, &[1, 4])
        .i8("w", &[2, 2], &[1, -2, 3, -4])
        .f32("s", &[], &[0.5])
        .i32("b", &[2], &[7, -8])
        .u8("z", &[], &[200])
        .i64("shape", &[2, 2])
        .node("DequantizeLinear", &["w", "s"], &["wf"])
        .node("Reshape", &["x", "shape"], &["xr"])
        .node_with(
            "com.microsoft.Own",
            &["xr", "", "wf", "b", "z"],
            &["y"],
            &[
                ("alpha", Attribute::Float(0.5)),
                ("axes", Attribute::Ints(vec![-1, 2])),
                ("mode", Attribute::String("wrap".into())),
                ("keep", Attribute::Int(0)),
                ("value", Attribute::Tensor(Array::scalar(2.0))),
            ],
        )
        .output("y")
        .graph();
    let again = super::import(&super::export(&graph)).unwrap();
    assert_eq!(again.to_string(), graph.to_string());
}
