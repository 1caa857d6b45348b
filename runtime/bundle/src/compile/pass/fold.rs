//! What is known before the model runs is computed now.
//!
//! Matches nodes that read constants only, Shape and Size of a value with a known shape, and If
//! with a constant condition. Makes constants of the first two and puts the nodes of the branch
//! that is taken in the place of the third; the other branch goes, with all that only it read.
//! Shapes are followed on the way (see `shape`), so that the chains by which exporters compute
//! them (`Shape -> Gather -> Concat -> Reshape`) become one constant. Right because an operator
//! without state gives the same results whenever it is applied, and the reference applies it.
//!
//! Left as they are: DequantizeLinear, since stored weights stay integers; results that would
//! take much more room than what they are made of; products that would take long, and windows of
//! any size; operators whose result's shape is not known before. The file decides none of the sizes here.

use std::collections::HashMap;

use super::shape;
use crate::compile::array::{Array, Data};
use crate::compile::error::CompileError;
use crate::compile::eval;
use crate::compile::graph::{Attribute, Graph, Node, ValueId};
use crate::compile::import::inline;

/// Elements by which a result may exceed the arguments: 64 KiB of floats.
const GROWTH: usize = 16 << 10;
/// Elements that all results together may have beyond twice those of the file's constants.
const ROOM: usize = 4 << 20;
/// Multiplications of one product of constants.
const WORK: usize = 64 << 20;

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let stored: usize = graph.constants().map(|(_, array)| array.len()).sum();
    let mut room = stored.saturating_mul(2).saturating_add(ROOM);
    let mut work = WORK;
    let mut moved = HashMap::new();
    let mut changed = 0;
    // The next node last; branches that are taken push theirs.
    let mut left = std::mem::take(&mut graph.nodes);
    left.reverse();
    while let Some(mut node) = left.pop() {
        for input in node.inputs.iter_mut().flatten() {
            *input = moved.get(input).copied().unwrap_or(*input);
        }
        if let Some(nodes) = branch(graph, &mut node, &mut moved) {
            left.extend(nodes.into_iter().rev());
            changed += 1;
            continue;
        }
        if let Some(results) = computed(graph, &node, &mut room, &mut work) {
            for (output, array) in node.outputs.iter().zip(results) {
                if let Some(id) = output {
                    graph.set_constant(*id, array);
                }
            }
            changed += 1;
            continue;
        }
        graph.nodes.push(node);
        shape::note(graph, graph.nodes.len() - 1);
    }
    Ok(changed + graph.sweep())
}

/// What the node gives, if that is known and may be held.
fn computed(graph: &Graph, node: &Node, room: &mut usize, work: &mut usize) -> Option<Vec<Array>> {
    if node.is("Shape") || node.is("Size") {
        return Some(vec![measured(graph, node)?]);
    }
    let kept = node.is("DequantizeLinear") || node.op.ends_with("Pool") || node.op == "LRN";
    if kept || node.inputs.is_empty() || !node.captures.is_empty() {
        return None;
    }
    let mut inputs = Vec::with_capacity(node.inputs.len());
    let mut arguments = 0usize;
    for input in &node.inputs {
        let array = match input {
            Some(id) => Some(graph.constant(*id)?),
            None => None,
        };
        arguments = arguments.saturating_add(array.map_or(0, Array::len));
        inputs.push(array);
    }
    let shapes = shape::shapes(graph, node)?;
    let mut results = 0usize;
    for shape in &shapes {
        results = results.checked_add(shape::count(shape)?)?;
    }
    if shapes.len() < node.outputs.len()
        || results > arguments.saturating_add(GROWTH)
        || results > *room
    {
        return None;
    }
    let multiplies = node.op.contains("MatMul") || node.op.contains("Conv") || node.op == "Gemm";
    if multiplies {
        let first = inputs.iter().flatten().map(|a| a.len()).max()?;
        *work = work.checked_sub(first.checked_mul(results.max(1))?)?;
    }
    let made = eval::apply(graph, node, inputs).ok()?;
    *room -= results;
    (made.len() >= node.outputs.len()).then_some(made)
}

/// The result of Shape or Size.
fn measured(graph: &Graph, node: &Node) -> Option<Array> {
    let shape = shape::exact(graph, node.input(0)?)?;
    if node.op == "Size" {
        let count = i64::try_from(shape::count(&shape)?).ok()?;
        return Array::new(Vec::new(), Data::I64(vec![count]));
    }
    let (start, end) = shape::bounds(node, shape.len());
    let told = shape.get(start..end).unwrap_or_default();
    let told: Option<Vec<i64>> = told.iter().map(|&d| i64::try_from(d).ok()).collect();
    Some(Array::indices(told?))
}

/// The nodes of the branch that an If with a constant condition takes. Readers of the If go to
/// the branch's results by `moved`, the graph's outputs and inner graphs by an Identity.
fn branch(
    graph: &mut Graph,
    node: &mut Node,
    moved: &mut HashMap<ValueId, ValueId>,
) -> Option<Vec<Node>> {
    if !node.is("If") {
        return None;
    }
    let taken = match graph.constant(node.input(0)?)?.data() {
        Data::Bool(v) if v.first() == Some(&true) => "then_branch",
        Data::Bool(v) if v.first() == Some(&false) => "else_branch",
        _ => return None,
    };
    let Some(Attribute::Graph(proto)) = node.attributes.get(taken) else {
        return None;
    };
    let body = inline(graph, (**proto).clone()).ok()?;
    if body.outputs.len() < node.outputs.len() {
        return None;
    }
    let mut nodes = body.nodes;
    for (output, result) in node.outputs.iter().zip(body.outputs) {
        let Some(output) = *output else {
            continue;
        };
        let result = moved.get(&result).copied().unwrap_or(result);
        moved.insert(output, result);
        nodes.push(Node::new(&node.name, "Identity", &[result], output));
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;
    use crate::compile::proto::{GraphProto, NodeProto, ValueInfoProto};

    fn run(mut graph: Graph) -> String {
        super::run(&mut graph).unwrap();
        graph.to_string()
    }

    /// Any values for the only input.
    fn x(graph: &Graph) -> [Array; 1] {
        let shape = shape::exact(graph, graph.inputs[0]).unwrap();
        let values = (0..shape.iter().product()).map(|n: usize| n as f32 - 1.5);
        [Array::new(shape, Data::F32(values.collect())).unwrap()]
    }

    #[test]
    fn a_chain_that_computes_a_shape_becomes_its_constant() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 3, 2, 2])
            .constant("zero", Array::new(vec![], Data::I64(vec![0])).unwrap())
            .i64("axes", &[0])
            .i64("rest", &[-1])
            .node("Relu", &["x"], &["r"])
            .node("Shape", &["r"], &["shape"])
            .node("Gather", &["shape", "zero"], &["batch"])
            .node("Unsqueeze", &["batch", "axes"], &["first"])
            .node_with(
                "Concat",
                &["first", "rest"],
                &["to"],
                &[("axis", Attribute::Int(0))],
            )
            .node("Reshape", &["r", "to"], &["y"])
            .output("y")
            .graph();
        let mut after = graph.clone();
        super::run(&mut after).unwrap();
        let before = eval::run(&graph, &x(&graph)).unwrap();
        assert_eq!(eval::run(&after, &x(&graph)).unwrap(), before);
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,3,2,2]
const to i64[2] [1.0, -1.0]
      r = Relu(x)
      y = Reshape(r, to)
out   y
"
        );
    }

    #[test]
    fn stored_weights_and_what_would_grow_stay() {
        let graph = Draft::new(13)
            .i8("w", &[2], &[1, 2])
            .f32("s", &[], &[0.5])
            .f32("one", &[1], &[1.0])
            .i64("many", &[1 << 40])
            .node("DequantizeLinear", &["w", "s"], &["wf"])
            .node("Expand", &["one", "many"], &["big"])
            .output("wf")
            .output("big")
            .graph();
        let before = graph.to_string();
        assert_eq!(run(graph), before);
    }

    fn negated_or_not() -> Graph {
        let node = |op: &str, input: &str| NodeProto {
            op_type: op.to_owned(),
            input: vec![input.to_owned()],
            output: vec!["r".to_owned()],
            ..NodeProto::default()
        };
        let branch = |op: &str| {
            let proto = GraphProto {
                node: vec![node(op, "a")],
                output: vec![ValueInfoProto {
                    name: "r".to_owned(),
                    kind: None,
                }],
                ..GraphProto::default()
            };
            Attribute::Graph(Box::new(proto))
        };
        let attributes = [
            ("then_branch", branch("Neg")),
            ("else_branch", branch("Abs")),
        ];
        let mut graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .constant("no", Array::new(vec![], Data::Bool(vec![false])).unwrap())
            .node("Relu", &["x"], &["a"])
            .node("Exp", &["a"], &["r"])
            .node_with("If", &["no"], &["if"], &attributes)
            .node("Add", &["r", "if"], &["y"])
            .output("y")
            .graph();
        let read = graph.find("a");
        graph.nodes[2].captures.extend(read);
        graph
    }

    #[test]
    fn a_known_branch_takes_the_place_of_its_if() {
        let mut after = negated_or_not();
        super::run(&mut after).unwrap();
        let computed = eval::run(&after, &x(&after)).unwrap();
        // exp(relu(-1.5)) + |relu(-1.5)|, and the same of -0.5
        assert_eq!(computed[0].as_f32(), Some([1.0, 1.0].as_slice()));
        assert_eq!(
            run(negated_or_not()),
            "\
opset 13
in    x f32[1,2]
      a = Relu(x)
      r = Exp(a)
      r.2 = Abs(a)
      y = Add(r, r.2)
out   y
"
        );
    }
}
