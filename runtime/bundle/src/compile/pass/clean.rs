//! What computes nothing goes: no-ops, and quantisers that repeat each other.
//!
//! Matches two Transposes or Reshapes in a row (the first one goes), Identity, Dropout outside of training, Cast to the type a value has, Reshape and
//! Flatten to the shape it has, Transpose that moves nothing, Pad by nothing, Concat of one;
//! `DequantizeLinear -> QuantizeLinear` of equal parameters; QuantizeLinear or
//! DequantizeLinear that another one of the same value with equal parameters has computed
//! already. Readers get the earlier value, then [`Graph::sweep`] drops what nobody reads.
//! Right because all of them hand their input on unchanged: a quantised integer `q` comes back
//! as round((q-z)*s/s)+z = q while neither product nor quotient leaves the normal floats,
//! which the match asks of `s`. Outputs of the graph keep their names: the value's maker makes
//! them directly, and where it cannot (an input, a constant, another output) the no-op stays.
//! So do values that a graph inside a node reads by name.

mod no_op;

use std::collections::{HashMap, HashSet};

use no_op::is_no_op;

use crate::compile::array::ElementType;
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, Graph, MOST_AXES, Node, ValueId};

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let mut clean = Clean::new(graph);
    let mut changed = 0;
    let mut gone = vec![false; graph.nodes.len()];
    for (place, gone) in gone.iter_mut().enumerate() {
        clean.redirect(&mut graph.nodes[place]);
        changed += usize::from(clean.merge(graph, place).is_some());
        let Some(kept) = clean.same(graph, place) else {
            continue;
        };
        if let Some(output) = graph.nodes[place].output()
            && clean.bypass(graph, output, kept)
        {
            *gone = true;
            changed += 1;
        }
    }
    for node in &mut graph.nodes {
        clean.redirect(node);
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| gone.next() != Some(true));
    Ok(changed + graph.sweep())
}

struct Clean {
    makers: HashMap<ValueId, usize>,
    /// Values that must stay because the caller or an inner graph names them.
    named: HashSet<ValueId>,
    captured: HashSet<ValueId>,
    read: HashSet<ValueId>,
    /// Values that nobody makes any more, with what holds the same.
    moved: HashMap<ValueId, ValueId>,
    /// One constant of all that are equal, of those that quantisers take.
    twins: HashMap<ValueId, ValueId>,
    /// Quantisers so far: operator, attributes and inputs, with their output.
    quantisers: HashMap<(String, String, Vec<Option<ValueId>>), ValueId>,
}

impl Clean {
    fn new(graph: &Graph) -> Self {
        let captures = graph.nodes.iter().flat_map(|n| &n.captures);
        let captured: HashSet<ValueId> = captures.copied().collect();
        let outputs = graph.outputs.iter().copied();
        Self {
            makers: graph.makers(),
            named: outputs.chain(captured.iter().copied()).collect(),
            captured,
            read: graph.nodes.iter().flat_map(Node::reads).collect(),
            moved: HashMap::new(),
            twins: twins(graph),
            quantisers: HashMap::new(),
        }
    }

    /// What holds the elements of `id` now.
    fn at(&self, mut id: ValueId) -> ValueId {
        while let Some(next) = self.moved.get(&id) {
            id = *next;
        }
        id
    }

    fn redirect(&self, node: &mut Node) {
        for input in node.inputs.iter_mut().flatten() {
            *input = self.at(*input);
        }
    }

    /// Lets everybody read `kept` instead of `output`; whether that is possible.
    fn bypass(&mut self, graph: &mut Graph, output: ValueId, kept: ValueId) -> bool {
        let known = graph.value(output);
        let (element, shape) = (known.element, known.shape.clone());
        let value = graph.value_mut(kept);
        value.element = value.element.or(element);
        value.shape = value.shape.take().or(shape);
        if !self.named.contains(&output) {
            self.moved.insert(output, kept);
            return true;
        }
        let Some(&maker) = self.makers.get(&kept) else {
            return false;
        };
        if self.captured.contains(&output) || self.named.contains(&kept) {
            return false;
        }
        for made in graph.nodes[maker].outputs.iter_mut().flatten() {
            if *made == kept {
                *made = output;
            }
        }
        let known = graph.value(kept);
        let (element, shape) = (known.element, known.shape.clone());
        let value = graph.value_mut(output);
        value.element = value.element.or(element);
        value.shape = value.shape.take().or(shape);
        self.makers.insert(output, maker);
        self.moved.insert(kept, output);
        true
    }

    /// Lets a layout operator read what the one before it reads.
    fn merge(&self, graph: &mut Graph, place: usize) -> Option<()> {
        let node = &graph.nodes[place];
        let before = &graph.nodes[*self.makers.get(&node.input(0)?)?];
        let source = before.input(0)?;
        if !node.is_standard() || !before.is_standard() || node.op != before.op {
            return None;
        }
        let perm = match node.op.as_str() {
            "Transpose" => {
                let (first, second) = (before.ints("perm")?, node.ints("perm")?);
                let through = |&p: &i64| first.get(usize::try_from(p).ok()?).copied();
                Some(second.iter().map(through).collect::<Option<Vec<i64>>>()?)
            }
            // A zero would stand for an axis of the shape between.
            "Reshape" => {
                let to = graph.constant(node.input(1)?)?.as_i64()?;
                if to.len() > MOST_AXES || to.contains(&0) {
                    return None;
                }
                None
            }
            _ => return None,
        };
        let node = &mut graph.nodes[place];
        node.inputs[0] = Some(source);
        if let Some(perm) = perm {
            let perm = Attribute::Ints(perm);
            node.attributes.insert("perm".to_owned(), perm);
        }
        Some(())
    }

    /// The value that holds what the node at `place` computes, if there is one already.
    fn same(&mut self, graph: &Graph, place: usize) -> Option<ValueId> {
        let node = &graph.nodes[place];
        let alone = node.outputs.iter().skip(1).flatten();
        if !node.is_standard() || alone.into_iter().any(|o| self.is_read(*o)) {
            return None;
        }
        if is_no_op(graph, node) {
            return node.input(0);
        }
        if !matches!(node.op.as_str(), "QuantizeLinear" | "DequantizeLinear") {
            return None;
        }
        if let Some(integer) = self.round_trip(graph, node) {
            return Some(integer);
        }
        let mut inputs = node.inputs.clone();
        for input in inputs.iter_mut().skip(1).flatten() {
            *input = self.twin(*input);
        }
        let attributes = format!("{:?}", node.attributes);
        let key = (node.op.clone(), attributes, inputs);
        let before = self.quantisers.get(&key).copied();
        if before.is_none() {
            self.quantisers.insert(key, node.output()?);
        }
        before.map(|id| self.at(id))
    }

    fn is_read(&self, id: ValueId) -> bool {
        self.read.contains(&id) || self.named.contains(&id)
    }

    fn twin(&self, id: ValueId) -> ValueId {
        self.twins.get(&id).copied().unwrap_or(id)
    }

    /// The integers that `node` quantises again as they were.
    fn round_trip(&self, graph: &Graph, node: &Node) -> Option<ValueId> {
        let maker = *self.makers.get(&node.input(0)?)?;
        let before = &graph.nodes[maker];
        if !node.is("QuantizeLinear") || !before.is("DequantizeLinear") {
            return None;
        }
        let parameter = |node: &Node, place| node.input(place).map(|id: ValueId| self.twin(id));
        let blocks = |node: &Node| node.int("block_size").unwrap_or(0);
        let integer = before.input(0)?;
        let element = element(graph, before)?;
        let scales = graph.constant(node.input(1)?)?.as_f32()?;
        let fits = parameter(node, 1) == parameter(before, 1)
            && parameter(node, 2) == parameter(before, 2)
            && node.int("axis").unwrap_or(1) == before.int("axis").unwrap_or(1)
            && blocks(node) == 0
            && blocks(before) == 0
            && element_out(graph, node) == Some(element)
            && element.integer_range().is_some()
            && scales.iter().all(|s| (1e-30..1e30).contains(s));
        fits.then_some(integer)
    }
}

/// Type of the integers that a DequantizeLinear takes.
fn element(graph: &Graph, node: &Node) -> Option<ElementType> {
    let of = |id: ValueId| graph.value(id).element;
    node.input(2).and_then(of).or_else(|| of(node.input(0)?))
}

/// Type of the integers that a QuantizeLinear makes.
fn element_out(graph: &Graph, node: &Node) -> Option<ElementType> {
    let code = node.int("output_dtype").unwrap_or(0);
    match (node.input(2), i32::try_from(code).ok()?) {
        (Some(zero), _) => graph.value(zero).element,
        (None, 0) => Some(ElementType::U8),
        (None, code) => Some(ElementType(code)),
    }
}

/// Every parameter of a quantiser that equals an earlier one.
fn twins(graph: &Graph) -> HashMap<ValueId, ValueId> {
    let mut first: HashMap<(i32, Vec<usize>, Vec<u64>), ValueId> = HashMap::new();
    let mut twins = HashMap::new();
    for node in &graph.nodes {
        if !matches!(node.op.as_str(), "QuantizeLinear" | "DequantizeLinear") {
            continue;
        }
        for id in node.inputs.iter().skip(1).flatten() {
            if twins.contains_key(id) {
                continue;
            }
            let Some(array) = graph.constant(*id) else {
                continue;
            };
            let Some(values) = array.to_f64() else {
                continue;
            };
            let bits = values.into_iter().map(f64::to_bits).collect();
            let key = (array.element().0, array.shape().to_vec(), bits);
            twins.insert(*id, *first.entry(key).or_insert(*id));
        }
    }
    twins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::draft::Draft;

    fn run(mut graph: Graph) -> String {
        super::run(&mut graph).unwrap();
        graph.to_string()
    }

    #[test]
    fn no_ops_go() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .i64("same", &[1, -1])
            .i64("pads", &[0, 0, 0, 0])
            .node("Identity", &["x"], &["a"])
            .node("Dropout", &["a"], &["b", "mask"])
            .node_with("Cast", &["b"], &["c"], &[("to", Attribute::Int(1))])
            .node("Reshape", &["c", "same"], &["d"])
            .node_with(
                "Transpose",
                &["d"],
                &["e"],
                &[("perm", Attribute::Ints(vec![0, 1]))],
            )
            .node("Pad", &["e", "pads"], &["f"])
            .node_with("Concat", &["f"], &["g"], &[("axis", Attribute::Int(0))])
            .node("Flatten", &["g"], &["h"])
            .node("Relu", &["h"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,2]
      y = Relu(x)
out   y
"
        );
    }

    #[test]
    fn layouts_in_a_row_are_one() {
        let perm = |perm: &[i64]| [("perm", Attribute::Ints(perm.to_vec()))];
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2, 3])
            .i64("pair", &[2, 3])
            .i64("flat", &[1, -1])
            .node_with("Transpose", &["x"], &["a"], &perm(&[0, 2, 1]))
            .node_with("Transpose", &["a"], &["b"], &perm(&[0, 2, 1]))
            .node_with("Transpose", &["a"], &["c"], &perm(&[2, 0, 1]))
            .node("Reshape", &["c", "pair"], &["d"])
            .node("Reshape", &["d", "flat"], &["e"])
            .node("Relu", &["b"], &["y"])
            .output("y")
            .output("e")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,2,3]
const flat i64[2] [1.0, -1.0]
      c = Transpose(x) perm=[1, 0, 2]
      e = Reshape(c, flat)
      y = Relu(x)
out   y
out   e
"
        );
    }

    #[test]
    fn an_output_keeps_its_name() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .node("Relu", &["x"], &["a"])
            .node("Neg", &["a"], &["b"])
            .node("Identity", &["a"], &["y"])
            .node("Identity", &["a"], &["z"])
            .node("Abs", &["a"], &["c"])
            .node("Identity", &["x"], &["echo"])
            .output("y")
            .output("z")
            .output("b")
            .output("c")
            .output("echo")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,2]
      y = Relu(x)
      b = Neg(y)
      z = Identity(y)
      c = Abs(y)
      echo = Identity(x)
out   y
out   z
out   b
out   c
out   echo
"
        );
    }

    #[test]
    fn quantisers_that_repeat_each_other_are_one() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .f32("s", &[], &[0.5])
            .f32("s2", &[], &[0.5])
            .u8("z", &[], &[3])
            .u8("z2", &[], &[3])
            .u8("other", &[], &[4])
            .node("QuantizeLinear", &["x", "s", "z"], &["a"])
            .node("DequantizeLinear", &["a", "s", "z"], &["b"])
            .node("QuantizeLinear", &["b", "s2", "z2"], &["c"])
            .node("DequantizeLinear", &["c", "s2", "z2"], &["d"])
            .node("QuantizeLinear", &["d", "s2", "other"], &["e"])
            .node("DequantizeLinear", &["e", "s2", "other"], &["f"])
            .node("Add", &["b", "d"], &["g"])
            .node("Add", &["f", "g"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,2]
const s f32[] [0.5]
const s2 f32[] [0.5]
const z u8[] [3.0]
const other u8[] [4.0]
      a = QuantizeLinear(x, s, z)
      b = DequantizeLinear(a, s, z)
      e = QuantizeLinear(b, s2, other)
      f = DequantizeLinear(e, s2, other)
      g = Add(b, b)
      y = Add(f, g)
out   y
"
        );
    }

    #[test]
    fn what_an_inner_graph_reads_stays() {
        let mut graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .input("if", ElementType::BOOL, &[])
            .node("Identity", &["x"], &["a"])
            .node("If", &["if"], &["y"])
            .output("y")
            .graph();
        let read = graph.find("a");
        graph.nodes[1].captures.extend(read);
        let before = graph.to_string();
        assert_eq!(run(graph), before);
    }
}
