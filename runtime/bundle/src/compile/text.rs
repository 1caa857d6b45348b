//! A graph as text, for messages and for the snapshots that show what a pass does.
//!
//! One line per input, constant, node and output, in the graph's order. Small constants show
//! their elements. The text is for people; nothing parses it.

use std::fmt::{Display, Formatter, Result, Write as _};

use super::array::Array;
use super::graph::{Attribute, Graph, Node, ValueId};

/// Constants of at most this many elements show them.
const SHOWN: usize = 8;

impl Display for Graph {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "opset {}", self.opset)?;
        for input in &self.inputs {
            writeln!(f, "in    {}{}", self.name(*input), self.kind(*input))?;
        }
        for (id, array) in self.constants() {
            writeln!(f, "const {} {}", self.name(id), describe(array))?;
        }
        for node in &self.nodes {
            writeln!(f, "      {}", self.line(node))?;
        }
        for output in &self.outputs {
            writeln!(f, "out   {}", self.name(*output))?;
        }
        Ok(())
    }
}

impl Graph {
    /// Element type and shape of a value, with a space before them.
    pub(super) fn kind(&self, id: ValueId) -> String {
        let value = self.value(id);
        let element = value.element.map_or("?", |e| e.name());
        let Some(shape) = &value.shape else {
            return format!(" {element}");
        };
        let axes: Vec<String> = shape
            .iter()
            .map(|axis| axis.map_or_else(|| "?".to_owned(), |n| n.to_string()))
            .collect();
        format!(" {element}[{}]", axes.join(","))
    }

    fn line(&self, node: &Node) -> String {
        let names = |ids: &[Option<ValueId>]| {
            let names: Vec<&str> = ids
                .iter()
                .map(|id| id.map_or("_", |id| self.name(id)))
                .collect();
            names.join(", ")
        };
        let domain = match node.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let mut line = format!(
            "{} = {domain}{}({})",
            names(&node.outputs),
            node.op,
            names(&node.inputs)
        );
        for (name, attribute) in &node.attributes {
            let _ = write!(line, " {name}={attribute}");
        }
        line
    }
}

impl Display for Attribute {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Float(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::String(v) => write!(f, "{v:?}"),
            Self::Tensor(v) => write!(f, "{}", describe(v)),
            Self::Floats(v) => write!(f, "{v:?}"),
            Self::Ints(v) => write!(f, "{v:?}"),
            Self::Strings(v) => write!(f, "{v:?}"),
            Self::Graph(_) => write!(f, "{{graph}}"),
        }
    }
}

/// `f32[2,3]`, and the elements of a small one.
fn describe(array: &Array) -> String {
    let axes: Vec<String> = array.shape().iter().map(ToString::to_string).collect();
    let kind = format!("{}[{}]", array.element(), axes.join(","));
    match array.to_f64() {
        Some(values) if values.len() <= SHOWN => format!("{kind} {values:?}"),
        _ => kind,
    }
}
