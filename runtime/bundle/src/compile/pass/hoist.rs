//! Layout operators move into quantised constants, and float constants are quantised.
//!
//! Matches `DequantizeLinear(constant)` followed by Transpose, Reshape, Flatten, Squeeze,
//! Unsqueeze or Identity, and `QuantizeLinear(constant)`. Makes one `DequantizeLinear` of a
//! constant that is laid out, or quantised, already. Right because dequantising is done
//! element by element: it commutes with everything that only moves elements, as long as each
//! element keeps its scale. So the axis of per-channel scales goes along, and where a Reshape
//! splits or merges that axis, the graph stays as it is. Weights behind it are what the engine
//! and the integer form expect: one integer constant under one DequantizeLinear, next to the
//! operator that reads it.

use std::collections::HashMap;

use crate::compile::array::Array;
use crate::compile::error::CompileError;
use crate::compile::eval;
use crate::compile::graph::{Attribute, Graph, Node, ValueId};

const LAYOUT: [&str; 6] = [
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
];

/// Elements that may be laid out and quantised, beyond four times those of the file's
/// constants. A file that reads one weight in many layouts, or moves it over and over, keeps
/// its operators from there on.
const ROOM: usize = 16 << 20;

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let mut changed = 0;
    let stored: usize = graph.constants().map(|(_, array)| array.len()).sum();
    let mut room = stored.saturating_mul(4).saturating_add(ROOM);
    let mut makers = graph.makers();
    let mut reads = reads(graph);
    let mut gone = vec![false; graph.nodes.len()];
    for (place, gone) in gone.iter_mut().enumerate() {
        if let Some((output, array)) = quantised(graph, &graph.nodes[place], &mut room) {
            graph.set_constant(output, array);
            makers.remove(&output);
            *gone = true;
            changed += 1;
            continue;
        }
        let Some(hoist) = Hoist::find(graph, &makers, place, &mut room) else {
            continue;
        };
        let alone = |id: ValueId| reads.get(&id) == Some(&1);
        let layout = &graph.nodes[place];
        let (title, output) = (layout.name.clone(), layout.output());
        let scaled = &graph.nodes[hoist.scaled];
        match (scaled.input(0), scaled.output()) {
            (Some(weight), Some(made)) if alone(weight) && alone(made) => {
                graph.set_constant(weight, hoist.array);
                let scaled = &mut graph.nodes[hoist.scaled];
                set_axis(scaled, hoist.axis);
                scaled.outputs = vec![output];
                makers.extend(output.map(|id| (id, hoist.scaled)));
                *gone = true;
            }
            (Some(weight), _) => {
                let mut scaled = scaled.clone();
                let name = graph.name(weight).to_owned();
                scaled.inputs[0] = Some(graph.add_constant(&name, hoist.array));
                scaled.outputs = vec![output];
                scaled.name = title;
                set_axis(&mut scaled, hoist.axis);
                for read in scaled.reads() {
                    *reads.entry(read).or_default() += 1;
                }
                graph.nodes[place] = scaled;
            }
            _ => continue,
        }
        changed += 1;
    }
    let mut gone = gone.into_iter();
    graph.nodes.retain(|_| gone.next() != Some(true));
    graph.sweep();
    Ok(changed)
}

/// How often each value is read, by the caller of the graph included.
fn reads(graph: &Graph) -> HashMap<ValueId, usize> {
    let mut reads = HashMap::new();
    let all = graph.nodes.iter().flat_map(Node::reads);
    for id in all.chain(graph.outputs.iter().copied()) {
        *reads.entry(id).or_default() += 1;
    }
    reads
}

/// The output of a QuantizeLinear of constants, with its elements.
fn quantised(graph: &Graph, node: &Node, room: &mut usize) -> Option<(ValueId, Array)> {
    if !node.is("QuantizeLinear") {
        return None;
    }
    let output = node.output()?;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        inputs.push(match input {
            Some(id) => Some(graph.constant(*id)?),
            None => None,
        });
    }
    let float = inputs.first().copied().flatten()?;
    *room = room.checked_sub(float.len())?;
    let made = eval::apply(graph, node, inputs).ok()?;
    Some((output, made.into_iter().next()?))
}

/// A layout operator that can go.
struct Hoist {
    /// Place of the DequantizeLinear before it.
    scaled: usize,
    /// The laid out constant.
    array: Array,
    /// The axis of its scales, where they have one.
    axis: Option<usize>,
}

impl Hoist {
    fn find(
        graph: &Graph,
        makers: &HashMap<ValueId, usize>,
        place: usize,
        room: &mut usize,
    ) -> Option<Self> {
        let layout = &graph.nodes[place];
        if !layout.is_standard() || !LAYOUT.contains(&layout.op.as_str()) {
            return None;
        }
        layout.output()?;
        let at = *makers.get(&layout.input(0)?)?;
        let scaled = &graph.nodes[at];
        if !scaled.is("DequantizeLinear") || scaled.int("block_size").unwrap_or(0) != 0 {
            return None;
        }
        let weight = graph.constant(scaled.input(0)?)?;
        let scale = graph.value(scaled.input(1)?);
        let channels = match scale.shape.as_deref()? {
            [] | [Some(1)] => None,
            [Some(_)] => Some(channel_axis(scaled, weight.rank())?),
            _ => return None,
        };
        let mut inputs = vec![Some(weight)];
        for input in layout.inputs.iter().skip(1) {
            inputs.push(match input {
                Some(id) => Some(graph.constant(*id)?),
                None => None,
            });
        }
        *room = room.checked_sub(weight.len())?;
        let made = eval::apply(graph, layout, inputs).ok()?;
        let array = made.into_iter().next()?;
        let axis = match channels {
            None => None,
            Some(axis) => Some(moved(layout, weight.shape(), axis, array.shape())?),
        };
        Some(Self {
            scaled: at,
            array,
            axis,
        })
    }
}

/// The axis of a per-channel DequantizeLinear of `rank` axes.
fn channel_axis(node: &Node, rank: usize) -> Option<usize> {
    let axis = node.int("axis").unwrap_or(1);
    let rank_signed = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis + rank_signed } else { axis };
    usize::try_from(axis).ok().filter(|a| *a < rank)
}

/// Where `axis` of shape `old` is behind `layout`, which gives shape `new`.
fn moved(layout: &Node, old: &[usize], axis: usize, new: &[usize]) -> Option<usize> {
    if layout.op == "Transpose" {
        return Some(match layout.ints("perm") {
            Some(perm) => perm.iter().position(|p| usize::try_from(*p) == Ok(axis))?,
            None => old.len() - 1 - axis,
        });
    }
    // Row-major order stays, so the axis is where as many elements lie before and behind it.
    let before = |shape: &[usize], axis: usize| shape[..axis].iter().product::<usize>();
    let (size, ahead) = (old[axis], before(old, axis));
    (0..new.len()).find(|&b| new[b] == size && before(new, b) == ahead && !new.contains(&0))
}

fn set_axis(node: &mut Node, axis: Option<usize>) {
    match axis {
        Some(axis) => {
            let axis = Attribute::Int(axis as i64);
            node.attributes.insert("axis".to_owned(), axis);
        }
        // A single scale has no axis; one that is kept might lie outside the new shape.
        None => {
            node.attributes.remove("axis");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;

    fn run(mut graph: Graph) -> String {
        super::run(&mut graph).unwrap();
        graph.to_string()
    }

    #[test]
    fn layout_operators_move_into_the_constant() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .i8("w", &[3, 2], &[1, 2, 3, 4, 5, 6])
            .f32("s", &[3], &[0.5, 1.0, 2.0])
            .i8("z", &[3], &[0, 0, 1])
            .i64("to", &[1, 2, 3])
            .i64("axes", &[0])
            .node_with(
                "DequantizeLinear",
                &["w", "s", "z"],
                &["wf"],
                &[("axis", Attribute::Int(0))],
            )
            .node("Transpose", &["wf"], &["wt"])
            .node("Reshape", &["wt", "to"], &["wr"])
            .node("Squeeze", &["wr", "axes"], &["ws"])
            .node("MatMul", &["x", "ws"], &["y"])
            .output("y")
            .graph();
        let before = eval::run(&graph, &[Array::new(vec![1, 2], x(2)).unwrap()]).unwrap();
        let mut after = graph;
        assert_eq!(super::run(&mut after).unwrap(), 3);
        assert_eq!(
            after.to_string(),
            "\
opset 13
in    x f32[1,2]
const w i8[2,3] [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]
const s f32[3] [0.5, 1.0, 2.0]
const z i8[3] [0.0, 0.0, 1.0]
      ws = DequantizeLinear(w, s, z) axis=1
      y = MatMul(x, ws)
out   y
"
        );
        let computed = eval::run(&after, &[Array::new(vec![1, 2], x(2)).unwrap()]).unwrap();
        assert_eq!(computed, before);
    }

    fn x(count: u8) -> crate::compile::Data {
        crate::compile::Data::F32((0..count).map(|v| f32::from(v) + 0.5).collect())
    }

    #[test]
    fn a_float_weight_under_a_quantiser_becomes_an_integer_constant() {
        let graph = Draft::new(13)
            .input("x", ElementType::F32, &[1, 2])
            .f32("w", &[2, 2], &[0.5, 1.3, -9.0, 200.0])
            .f32("s", &[], &[0.5])
            .i8("z", &[], &[0])
            .node("QuantizeLinear", &["w", "s", "z"], &["wq"])
            .node("DequantizeLinear", &["wq", "s", "z"], &["wf"])
            .node("Transpose", &["wf"], &["wt"])
            .node("MatMul", &["x", "wt"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
in    x f32[1,2]
const s f32[] [0.5]
const z i8[] [0.0]
const wq i8[2,2] [1.0, -18.0, 3.0, 127.0]
      wt = DequantizeLinear(wq, s, z)
      y = MatMul(x, wt)
out   y
"
        );
    }

    #[test]
    fn a_weight_of_two_layouts_is_held_twice() {
        let graph = Draft::new(13)
            .i8("w", &[1, 2], &[1, 2])
            .f32("s", &[], &[0.5])
            .node("DequantizeLinear", &["w", "s"], &["wf"])
            .node("Transpose", &["wf"], &["wt"])
            .node("MatMul", &["wf", "wt"], &["y"])
            .output("y")
            .graph();
        assert_eq!(
            run(graph),
            "\
opset 13
const w i8[1,2] [1.0, 2.0]
const s f32[] [0.5]
const w.2 i8[2,1] [1.0, 2.0]
      wf = DequantizeLinear(w, s)
      wt = DequantizeLinear(w.2, s)
      y = MatMul(wf, wt)
out   y
"
        );
    }

    #[test]
    fn a_reshape_that_breaks_the_axis_of_the_scales_stays() {
        let graph = Draft::new(13)
            .i8("w", &[2, 2], &[1, 2, 3, 4])
            .f32("s", &[2], &[0.5, 1.0])
            .i64("to", &[4])
            .node("DequantizeLinear", &["w", "s"], &["wf"])
            .node("Reshape", &["wf", "to"], &["y"])
            .output("y")
            .graph();
        let before = graph.to_string();
        assert_eq!(run(graph), before);
    }
}
