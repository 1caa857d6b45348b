//! The batch becomes one, and every shape of an input is known.
//!
//! Matches inputs with an open first axis. Makes that axis one, together with every axis of
//! any value that the file calls by the same name. Right because a device asks about one
//! window at a time, and an open axis takes any size, one included; what depends on the axis
//! is computed by `fold`. Other open axes are refused with the input and the axis: nobody but
//! the exporter knows their size, and left open they cost the engine several times the time.
//! A batch that the file fixes stays.

use std::collections::HashSet;

use crate::compile::error::CompileError;
use crate::compile::graph::{Graph, ValueId};

pub(super) fn run(graph: &mut Graph) -> Result<usize, CompileError> {
    let mut changed = 0;
    let mut names = HashSet::new();
    for id in graph.inputs.clone() {
        let value = graph.value_mut(id);
        let Some(first) = value.shape.as_mut().and_then(|s| s.first_mut()) else {
            continue;
        };
        if first.is_none() {
            *first = Some(1);
            names.extend(value.axis_names.first().cloned().flatten());
            changed += 1;
        }
    }
    if !names.is_empty() {
        for id in graph.ids() {
            let value = graph.value_mut(id);
            let axes = value.shape.iter_mut().flatten();
            for (axis, name) in axes.zip(&value.axis_names) {
                if axis.is_none() && name.as_ref().is_some_and(|n| names.contains(n)) {
                    *axis = Some(1);
                    changed += 1;
                }
            }
        }
    }
    for id in &graph.inputs {
        known(graph, *id)?;
    }
    Ok(changed)
}

/// Refuses an input of which something is not known.
fn known(graph: &Graph, id: ValueId) -> Result<(), CompileError> {
    let value = graph.value(id);
    let refused = |reason: String, help: &str| {
        let title = format!("the input \"{}\"", value.name);
        Err(CompileError::unsupported(title, reason, help))
    };
    if value.element.is_none() {
        return refused(
            "it is no tensor, or of no known element type".to_owned(),
            "export the model with tensors as inputs",
        );
    }
    let Some(shape) = &value.shape else {
        return refused(
            "the file does not say its shape".to_owned(),
            "export the model with the shapes of its inputs",
        );
    };
    let Some(open) = shape.iter().position(Option::is_none) else {
        return Ok(());
    };
    let called = match value.axis_names.get(open).and_then(Option::as_ref) {
        Some(name) => format!(", which the file calls \"{name}\","),
        None => String::new(),
    };
    refused(
        format!(
            "axis {open}{called} of {} has no fixed size",
            graph.kind(id).trim_start()
        ),
        "export the model with a fixed size for it (only the first axis, the batch, may be open)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::array::ElementType;
    use crate::compile::draft::Draft;

    /// A graph with one input, whose axes are open where they have a name.
    fn graph(axes: &[Result<usize, &str>]) -> Graph {
        let sizes: Vec<usize> = axes.iter().map(|a| a.unwrap_or(7)).collect();
        let mut graph = Draft::new(13)
            .input("x", ElementType::F32, &sizes)
            .input("other", ElementType::F32, &[2, 7])
            .node("Relu", &["x"], &["y"])
            .output("y")
            .graph();
        let id = graph.inputs[0];
        let value = graph.value_mut(id);
        value.shape = Some(axes.iter().map(|a| a.ok()).collect());
        value.axis_names = axes.iter().map(|a| a.err().map(str::to_owned)).collect();
        graph
    }

    #[test]
    fn an_open_batch_becomes_one_wherever_it_is_named() {
        let mut graph = graph(&[Err("N"), Ok(3)]);
        let second = graph.inputs[1];
        let value = graph.value_mut(second);
        value.shape = Some(vec![Some(2), None]);
        value.axis_names = vec![None, Some("N".to_owned())];
        assert_eq!(run(&mut graph).unwrap(), 2);
        assert_eq!(
            graph.to_string(),
            "\
opset 13
in    x f32[1,3]
in    other f32[2,1]
      y = Relu(x)
out   y
"
        );
    }

    #[test]
    fn a_fixed_batch_stays() {
        let mut graph = graph(&[Ok(4), Ok(3)]);
        assert_eq!(run(&mut graph).unwrap(), 0);
    }

    #[test]
    fn another_open_axis_is_refused_with_its_place() {
        let mut graph = graph(&[Err("N"), Err("time")]);
        assert_eq!(
            run(&mut graph).unwrap_err().to_string(),
            "the input \"x\" cannot be compiled: axis 1, which the file calls \"time\", of \
             f32[1,?] has no fixed size; export the model with a fixed size for it (only the \
             first axis, the batch, may be open)"
        );
    }
}
