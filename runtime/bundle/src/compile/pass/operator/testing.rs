//! What the tests of all families of operators share.

use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval;
use crate::compile::graph::Graph;

/// The graph after the pass, as text.
pub(super) fn rewritten(mut graph: Graph) -> String {
    super::run(&mut graph).unwrap();
    graph.sweep();
    graph.to_string()
}

/// The graph before and after the pass, as text.
pub(super) fn shown(graph: Graph) -> String {
    format!("{graph}=>\n{}", rewritten(graph.clone()))
}

/// Why the pass refuses a graph.
pub(super) fn refused(mut graph: Graph) -> String {
    super::run(&mut graph).unwrap_err().to_string()
}

/// Checks that the pass leaves no quantised operator, and keeps what the graph computes for
/// many random inputs: integers within one step, floats but for rounding.
pub(super) fn keeps(graph: &Graph) {
    let mut after = graph.clone();
    assert!(super::run(&mut after).unwrap() > 0);
    assert!(
        after
            .nodes
            .iter()
            .all(crate::compile::graph::Node::is_standard)
    );
    assert!(!after.nodes.iter().any(|n| n.op.starts_with("QLinear")));
    let mut random = Random(7);
    for _ in 0..20 {
        let inputs: Vec<Array> = graph
            .inputs
            .iter()
            .map(|id| random.array(graph, *id))
            .collect();
        let wanted = eval::run(graph, &inputs).unwrap();
        let got = eval::run(&after, &inputs).unwrap();
        for (wanted, got) in wanted.iter().zip(&got) {
            assert_eq!(
                (wanted.shape(), wanted.element()),
                (got.shape(), got.element())
            );
            let (a, b) = (wanted.to_f64().unwrap(), got.to_f64().unwrap());
            let room = match wanted.element() {
                ElementType::F32 => 1e-5 * a.iter().fold(1.0, |m, v| v.abs().max(m)),
                _ => 1.0,
            };
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= room, "{a} became {b}\n{graph}{after}");
            }
        }
    }
}

/// A xorshift generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn array(&mut self, graph: &Graph, id: crate::compile::graph::ValueId) -> Array {
        let value = graph.value(id);
        let shape: Vec<usize> = value.shape.clone().unwrap().into_iter().flatten().collect();
        let count = shape.iter().product();
        let mut bytes = (0..count).map(|_| self.next() as u8);
        let data = match value.element.unwrap() {
            ElementType::U8 => Data::U8(bytes.collect()),
            ElementType::I8 => Data::I8(bytes.map(|b| b as i8).collect()),
            ElementType::BOOL => Data::Bool(bytes.map(|b| b > 127).collect()),
            _ => Data::F32(bytes.by_ref().map(|b| f32::from(b) / 16.0 - 7.0).collect()),
        };
        Array::new(shape, data).unwrap()
    }
}
