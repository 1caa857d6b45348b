//! Operator sets 7 to 12 become 13.
//!
//! Matches operators whose form or meaning changed up to set 13, and makes the form of set 13:
//! attributes become inputs (axes of Squeeze, Unsqueeze and ReduceSum, parts of Split, bounds
//! of Clip and Slice, pads, `k` of TopK, scales of Upsample), names that went become those that
//! came (Upsample and Resize of set 10, Scatter), attributes of training go, and the Softmax
//! family, which flattened its input into two axes, does so by Flatten and Reshape unless its
//! axis is the last one. Right by the operators' change log. Inner graphs of such sets are
//! refused rather than read by the wrong rules, and so are sets below 7, which knew no
//! broadcasting. Set 13 and above stay: what follows knows the later forms too.

use std::collections::HashSet;

use crate::compile::array::{Array, Data, ElementType};
use crate::compile::error::CompileError;
use crate::compile::graph::{Attribute, Graph, Node, ValueId};

const OLDEST: i64 = 7;
const WANTED: i64 = 13;

/// What helps with everything that is refused here.
const HELP: &str = "convert the model to operator set 13 with onnx.version_converter, or export \
                    it anew";

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    if graph.opset >= WANTED {
        return Ok(0);
    }
    if graph.opset < OLDEST {
        return Err(CompileError::unsupported(
            format!("operator set {}", graph.opset),
            "sets below 7 have other rules for broadcasting",
            HELP,
        ));
    }
    let mut upgrade = Upgrade {
        read: graph.nodes.iter().flat_map(Node::reads).collect(),
        nodes: Vec::with_capacity(graph.nodes.len()),
        opset: graph.opset,
        graph,
    };
    upgrade.read.extend(upgrade.graph.outputs.iter().copied());
    let mut changed = 0;
    for node in std::mem::take(&mut upgrade.graph.nodes) {
        changed += usize::from(upgrade.node(node)?);
    }
    let nodes = upgrade.nodes;
    graph.nodes = nodes;
    graph.opset = WANTED;
    Ok(changed)
}

struct Upgrade<'g> {
    graph: &'g mut Graph,
    opset: i64,
    /// Values that somebody reads.
    read: HashSet<ValueId>,
    /// What has been written so far.
    nodes: Vec<Node>,
}

impl Upgrade<'_> {
    /// Writes the node in its new form; whether that differs.
    fn node(&mut self, mut node: Node) -> Result<bool, CompileError> {
        if node
            .attributes
            .values()
            .any(|a| matches!(a, Attribute::Graph(_)))
        {
            return refused(&node, "its inner graphs are of an operator set before 13");
        }
        if !node.is_standard() {
            self.nodes.push(node);
            return Ok(false);
        }
        let changed = match node.op.as_str() {
            "Squeeze" | "Unsqueeze" | "ReduceSum" => self.list(&mut node, "axes", 1),
            "Split" => self.list(&mut node, "split", 1),
            "TopK" => match node.attributes.remove("k") {
                Some(Attribute::Int(k)) => self.place(&mut node, 1, "k", Array::indices(vec![k])),
                _ => false,
            },
            "Slice" => {
                let starts = self.list(&mut node, "starts", 1);
                let ends = self.list(&mut node, "ends", 2);
                self.list(&mut node, "axes", 3) | starts | ends
            }
            "Clip" if self.opset < 11 => self.scalars(&mut node, &[("min", 1), ("max", 2)]),
            "Pad" if self.opset < 11 => {
                let pads = self.list(&mut node, "pads", 1);
                pads | self.scalars(&mut node, &[("value", 2)])
            }
            "Upsample" => self.upsample(&mut node)?,
            "Resize" if self.opset < 11 => self.resize(&mut node)?,
            "Scatter" => {
                node.op = "ScatterElements".to_owned();
                true
            }
            "Dropout" => node.attributes.remove("ratio").is_some(),
            "BatchNormalization" => self.normalise(&mut node)?,
            "Softmax" | "LogSoftmax" | "Hardmax" => return self.softmax(node),
            _ => false,
        };
        self.nodes.push(node);
        Ok(changed)
    }

    /// Sets input `place` of the node to a new constant.
    fn place(&mut self, node: &mut Node, place: usize, name: &str, array: Array) -> bool {
        let id = self
            .graph
            .add_constant(&format!("{}.{name}", node.name), array);
        if node.inputs.len() <= place {
            node.inputs.resize(place + 1, None);
        }
        node.inputs[place] = Some(id);
        true
    }

    /// Makes an input of a list attribute.
    fn list(&mut self, node: &mut Node, name: &str, place: usize) -> bool {
        match node.attributes.remove(name) {
            Some(Attribute::Ints(values)) => self.place(node, place, name, Array::indices(values)),
            _ => false,
        }
    }

    /// Makes inputs of numbers, of the type of the first input.
    fn scalars(&mut self, node: &mut Node, all: &[(&str, usize)]) -> bool {
        let element = node.input(0).and_then(|id| self.graph.value(id).element);
        let mut changed = false;
        for (name, place) in all {
            let Some(Attribute::Float(value)) = node.attributes.remove(*name) else {
                continue;
            };
            let array = match element {
                Some(ElementType::F64) => Array::new(Vec::new(), Data::F64(vec![f64::from(value)])),
                _ => Some(Array::scalar(value)),
            };
            changed |= array.is_some_and(|array| self.place(node, *place, name, array));
        }
        changed
    }

    fn upsample(&mut self, node: &mut Node) -> Result<bool, CompileError> {
        if let Some(Attribute::Floats(scales)) = node.attributes.remove("scales") {
            self.place(node, 1, "scales", Array::row(scales));
        }
        node.op = "Resize".to_owned();
        self.resize(node)
    }

    /// Resize of set 10: coordinates are scaled from the corner, and the nearest element is the
    /// one before where there are more, the one behind where there are fewer.
    fn resize(&mut self, node: &mut Node) -> Result<bool, CompileError> {
        let scales = node.input(1).and_then(|id| self.graph.constant(id));
        let nearest = match scales.and_then(Array::as_f32) {
            _ if node.text("mode").unwrap_or("nearest") != "nearest" => "floor",
            Some(scales) if scales.iter().all(|&s| s >= 1.0) => "floor",
            Some(scales) if scales.iter().all(|&s| s <= 1.0) => "ceil",
            Some(_) => return refused(node, "it makes one axis longer and another one shorter"),
            None => return refused(node, "its scales are no constant"),
        };
        if node.inputs.is_empty() {
            return refused(node, "it has no input");
        }
        node.inputs.insert(1, None);
        for (name, value) in [
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", nearest),
        ] {
            let value = Attribute::String(value.to_owned());
            node.attributes.insert(name.to_owned(), value);
        }
        Ok(true)
    }

    fn normalise(&mut self, node: &mut Node) -> Result<bool, CompileError> {
        let mut more = node.outputs.iter().skip(1).flatten();
        if more.any(|id| self.read.contains(id)) {
            return refused(node, "its outputs of training are read");
        }
        let spatial = match node.attributes.remove("spatial") {
            Some(Attribute::Int(1)) => true,
            None => false,
            _ => return refused(node, "it normalises every element on its own (spatial = 0)"),
        };
        let trained = node.outputs.len() > 1;
        node.outputs.truncate(1);
        Ok(spatial | trained)
    }

    fn softmax(&mut self, mut node: Node) -> Result<bool, CompileError> {
        let (Some(input), Some(output)) = (node.input(0), node.output()) else {
            return refused(&node, "it has no input or no output");
        };
        let axis = node.int("axis").unwrap_or(1);
        let rank = self.graph.value(input).shape.as_ref().map(Vec::len);
        let last = rank.and_then(|rank| i64::try_from(rank).ok()?.checked_sub(1));
        let is_last = axis == -1 || last == Some(axis);
        node.attributes
            .insert("axis".to_owned(), Attribute::Int(-1));
        if is_last {
            self.nodes.push(node);
            return Ok(true);
        }
        let name = node.name.clone();
        let mut value = |what: &str| self.graph.add_value(&format!("{name}.{what}"));
        let (shape, flat, result) = (value("shape"), value("flat"), value("result"));
        let flatten = Node::new(&name, "Flatten", &[input], flat);
        self.nodes.push(Node::new(&name, "Shape", &[input], shape));
        self.nodes.push(flatten.with("axis", Attribute::Int(axis)));
        node.inputs = vec![Some(flat)];
        node.outputs = vec![Some(result)];
        self.nodes.push(node);
        self.nodes
            .push(Node::new(&name, "Reshape", &[result, shape], output));
        Ok(true)
    }
}

fn refused(node: &Node, why: &str) -> Result<bool, CompileError> {
    Err(CompileError::unsupported(node.title(), why, HELP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::draft::Draft;
    use crate::compile::eval;

    fn ints(values: &[i64]) -> Attribute {
        Attribute::Ints(values.to_vec())
    }

    /// The graph after the pass, which gives what it gave before.
    fn run(graph: Graph, shape: &[usize]) -> String {
        let count: usize = shape.iter().product();
        let values = (0..count).map(|v| ((v * 7) % 11) as f32 - 4.5).collect();
        let x = [Array::new(shape.to_vec(), Data::F32(values)).unwrap()];
        let mut after = graph.clone();
        super::run(&mut after).unwrap();
        let before = eval::run(&graph, &x).unwrap();
        assert_eq!(eval::run(&after, &x).unwrap(), before, "{after}");
        after.to_string()
    }

    #[test]
    fn attributes_become_inputs() {
        let graph = Draft::new(9)
            .input("x", ElementType::F32, &[1, 3, 4])
            .node_with("Unsqueeze", &["x"], &["a"], &[("axes", ints(&[0]))])
            .node_with("Squeeze", &["a"], &["b"], &[("axes", ints(&[1]))])
            .node_with(
                "Pad",
                &["b"],
                &["c"],
                &[
                    ("pads", ints(&[0, 0, 1, 0, 0, 1])),
                    ("value", Attribute::Float(2.0)),
                ],
            )
            .node_with(
                "Clip",
                &["c"],
                &["d"],
                &[
                    ("max", Attribute::Float(6.0)),
                    ("min", Attribute::Float(0.0)),
                ],
            )
            .node_with(
                "Slice",
                &["d"],
                &["e"],
                &[
                    ("axes", ints(&[2])),
                    ("starts", ints(&[1])),
                    ("ends", ints(&[5])),
                ],
            )
            .node_with(
                "Split",
                &["e"],
                &["f", "g"],
                &[("axis", Attribute::Int(1)), ("split", ints(&[1, 2]))],
            )
            .node_with("ReduceSum", &["g"], &["h"], &[("axes", ints(&[1]))])
            .node_with(
                "Dropout",
                &["h"],
                &["i"],
                &[("ratio", Attribute::Float(0.5))],
            )
            .node("Add", &["f", "i"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph, &[1, 3, 4]),
            "\
opset 13
in    x f32[1,3,4]
const a.axes i64[1] [0.0]
const b.axes i64[1] [1.0]
const c.pads i64[6] [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
const c.value f32[] [2.0]
const d.min f32[] [0.0]
const d.max f32[] [6.0]
const e.starts i64[1] [1.0]
const e.ends i64[1] [5.0]
const e.axes i64[1] [2.0]
const f.split i64[2] [1.0, 2.0]
const h.axes i64[1] [1.0]
      a = Unsqueeze(x, a.axes)
      b = Squeeze(a, b.axes)
      c = Pad(b, c.pads, c.value)
      d = Clip(c, d.min, d.max)
      e = Slice(d, e.starts, e.ends, e.axes)
      f, g = Split(e, f.split) axis=1
      h = ReduceSum(g, h.axes)
      i = Dropout(h)
      y = Add(f, i)
out   y
"
        );
    }

    #[test]
    fn a_softmax_flattens_unless_its_axis_is_the_last() {
        let graph = Draft::new(11)
            .input("x", ElementType::F32, &[1, 3, 4])
            .node_with("Softmax", &["x"], &["a"], &[("axis", Attribute::Int(2))])
            .node("Softmax", &["a"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph, &[1, 3, 4]),
            "\
opset 13
in    x f32[1,3,4]
      a = Softmax(x) axis=-1
      y.shape = Shape(a)
      y.flat = Flatten(a) axis=1
      y.result = Softmax(y.flat) axis=-1
      y = Reshape(y.result, y.shape)
out   y
"
        );
    }

    #[test]
    fn an_upsample_becomes_a_resize() {
        let graph = Draft::new(9)
            .input("x", ElementType::F32, &[1, 1, 2, 2])
            .f32("s", &[4], &[1.0, 1.0, 2.0, 3.0])
            .node("Upsample", &["x", "s"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph, &[1, 1, 2, 2]),
            "\
opset 13
in    x f32[1,1,2,2]
const s f32[4] [1.0, 1.0, 2.0, 3.0]
      y = Resize(x, _, s) coordinate_transformation_mode=\"asymmetric\" nearest_mode=\"floor\"
out   y
"
        );
    }

    #[test]
    fn what_cannot_be_upgraded_is_refused() {
        let with = |opset: i64, attributes: &[(&str, Attribute)]| {
            let draft = Draft::new(opset).input("x", ElementType::F32, &[1, 3]);
            let inputs = ["x", "x", "x", "x", "x"];
            let draft = draft.node_with("BatchNormalization", &inputs, &["y"], attributes);
            super::run(&mut draft.output("y").graph()).map_err(|e| e.to_string())
        };
        assert_eq!(with(8, &[("spatial", Attribute::Int(1))]), Ok(1));
        assert_eq!(
            with(8, &[("spatial", Attribute::Int(0))]).unwrap_err(),
            "BatchNormalization \"y\" cannot be compiled: it normalises every element on its own \
             (spatial = 0); convert the model to operator set 13 with onnx.version_converter, or \
             export it anew"
        );
        assert_eq!(
            with(6, &[]).unwrap_err(),
            "operator set 6 cannot be compiled: sets below 7 have other rules for broadcasting; \
             convert the model to operator set 13 with onnx.version_converter, or export it anew"
        );
    }
}
