//! Operators that move integers or pick some, whatever they stand for.

use super::super::graph::{Graph, Node};
use super::check::{Checked, check_size, shape_of};
use super::window::window;
use super::{Operator, Window};

/// A layer that moves or picks integers, and the shape that it makes.
pub(super) type Move = (Operator, Vec<usize>);

/// What the node does to a tensor of `from`: nothing, or an operator that makes a shape. No
/// answer for nodes that compute.
pub(super) fn layout(graph: &Graph, node: &Node, from: &[usize]) -> Option<Checked<Option<Move>>> {
    if !node.is_standard() {
        return None;
    }
    Some(match node.op.as_str() {
        "Identity" | "Dropout" => Ok(None),
        "Flatten" => flatten(node, from).map(|to| reshape(from, to)),
        "Reshape" => reshaped(graph, node, from).map(|to| reshape(from, to)),
        "Squeeze" => squeezed(graph, node, from).map(|to| reshape(from, to)),
        "Unsqueeze" => unsqueezed(graph, node, from).map(|to| reshape(from, to)),
        "Transpose" => transpose(node, from),
        "Slice" => slice(graph, node, from).map(Some),
        "MaxPool" => max_pool(node, from).map(Some),
        "GlobalMaxPool" => global_max_pool(from).map(Some),
        _ => return None,
    })
}

fn reshape(from: &[usize], to: Vec<usize>) -> Option<(Operator, Vec<usize>)> {
    (from != to).then_some((Operator::Reshape, to))
}

/// An axis that may count from the end.
pub(super) fn axis(axis: i64, axes: usize) -> Checked<usize> {
    let counted = if axis < 0 { axis + axes as i64 } else { axis };
    let place = usize::try_from(counted).ok().filter(|&a| a <= axes);
    place.ok_or_else(|| format!("it has no axis {axis}"))
}

/// The integers of a constant input, or else of an attribute.
pub(super) fn integers(
    graph: &Graph,
    node: &Node,
    place: usize,
    attribute: &str,
) -> Checked<Option<Vec<i64>>> {
    if let Some(list) = node.ints(attribute) {
        return Ok(Some(list.to_vec()));
    }
    let Some(id) = node.input(place) else {
        return Ok(None);
    };
    let array = graph
        .constant(id)
        .ok_or("its shape is computed while the model runs")?;
    let list = match (array.as_i64(), array.to_i32()) {
        (Some(list), _) => list.to_vec(),
        (None, Some(list)) => list.into_iter().map(i64::from).collect(),
        _ => return Err("its axes are not integers".to_owned()),
    };
    Ok(Some(list))
}

fn flatten(node: &Node, from: &[usize]) -> Checked<Vec<usize>> {
    let at = axis(node.int("axis").unwrap_or(1), from.len())?;
    let (before, behind) = from.split_at(at);
    Ok(vec![before.iter().product(), behind.iter().product()])
}

fn reshaped(graph: &Graph, node: &Node, from: &[usize]) -> Checked<Vec<usize>> {
    let wanted = integers(graph, node, 1, "shape")?.ok_or("it has no shape")?;
    let keeps = node.int("allowzero").unwrap_or(0) == 0;
    let mut to = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (place, &length) in wanted.iter().enumerate() {
        to.push(match length {
            -1 => {
                open = Some(place);
                1
            }
            0 if keeps => *from
                .get(place)
                .ok_or("it keeps an axis that is not there")?,
            length => usize::try_from(length).map_err(|_| "its shape is negative")?,
        });
    }
    let elements: usize = from.iter().product();
    check_size(&to)?;
    let known: usize = to.iter().product();
    if let Some(place) = open {
        to[place] = elements.checked_div(known).ok_or("its shape is empty")?;
    }
    match to.iter().product::<usize>() == elements {
        true => Ok(to),
        false => Err("its shape has another number of elements".to_owned()),
    }
}

fn squeezed(graph: &Graph, node: &Node, from: &[usize]) -> Checked<Vec<usize>> {
    let gone: Vec<usize> = match integers(graph, node, 1, "axes")? {
        Some(list) => list
            .iter()
            .map(|&a| axis(a, from.len()))
            .collect::<Checked<_>>()?,
        None => (0..from.len()).filter(|&a| from[a] == 1).collect(),
    };
    let kept = from.iter().enumerate().filter(|(a, _)| !gone.contains(a));
    Ok(kept.map(|(_, &n)| n).collect())
}

fn unsqueezed(graph: &Graph, node: &Node, from: &[usize]) -> Checked<Vec<usize>> {
    let list = integers(graph, node, 1, "axes")?.ok_or("it has no axes")?;
    let axes = from.len() + list.len();
    let new: Vec<usize> = list
        .iter()
        .map(|&a| axis(a, axes))
        .collect::<Checked<_>>()?;
    let mut old = from.iter();
    let to: Option<Vec<usize>> = (0..axes)
        .map(|a| {
            if new.contains(&a) {
                Some(1)
            } else {
                old.next().copied()
            }
        })
        .collect();
    to.ok_or_else(|| "it adds an axis twice".to_owned())
}

fn transpose(node: &Node, from: &[usize]) -> Checked<Option<(Operator, Vec<usize>)>> {
    let order: Vec<usize> = match node.ints("perm") {
        Some(list) => list
            .iter()
            .map(|&a| axis(a, from.len()))
            .collect::<Checked<_>>()?,
        None => (0..from.len()).rev().collect(),
    };
    if order.iter().copied().eq(0..from.len()) {
        return Ok(None);
    }
    let operator = Operator::Transpose(order);
    let to = shape_of(&operator, &[from])?.unwrap_or_default();
    // Axes of length 1 that change their place move no element.
    let Operator::Transpose(order) = &operator else {
        return Ok(None);
    };
    let long: Vec<&usize> = order.iter().filter(|&&a| from[a] != 1).collect();
    match long.is_sorted() {
        true => Ok(Some((Operator::Reshape, to))),
        false => Ok(Some((operator, to))),
    }
}

fn slice(graph: &Graph, node: &Node, from: &[usize]) -> Checked<(Operator, Vec<usize>)> {
    let begin = integers(graph, node, 1, "starts")?.ok_or("it has no starts")?;
    let end = integers(graph, node, 2, "ends")?.ok_or("it has no ends")?;
    let axes =
        integers(graph, node, 3, "axes")?.unwrap_or_else(|| (0..begin.len() as i64).collect());
    let step = integers(graph, node, 4, "steps")?.unwrap_or_else(|| vec![1; begin.len()]);
    let mut starts = vec![0; from.len()];
    let mut steps = vec![1; from.len()];
    let mut to = from.to_vec();
    for (((&begin, &end), &at), &step) in begin.iter().zip(&end).zip(&axes).zip(&step) {
        let at = axis(at, from.len().saturating_sub(1))?;
        let length = from.get(at).copied().ok_or("it has no such axis")? as i64;
        let place = |n: i64| if n < 0 { n.saturating_add(length) } else { n }.clamp(0, length);
        let (begin, end) = (place(begin), place(end));
        if step < 1 || end <= begin {
            return Err("it picks nothing or backwards".to_owned());
        }
        starts[at] = begin as usize;
        steps[at] = step.min(length) as usize;
        to[at] = ((end - begin - 1) / step + 1) as usize;
    }
    Ok((Operator::Slice { starts, steps }, to))
}

fn max_pool(node: &Node, from: &[usize]) -> Checked<(Operator, Vec<usize>)> {
    if node.outputs.len() > 1 {
        return Err("it gives places beside values".to_owned());
    }
    let kernel = node.ints("kernel_shape").ok_or("it has no kernel")?;
    let (window, _) = window(node, from, kernel)?;
    picked(window, from)
}

fn global_max_pool(from: &[usize]) -> Checked<(Operator, Vec<usize>)> {
    picked(Window::whole(from)?, from)
}

fn picked(window: Window, from: &[usize]) -> Checked<(Operator, Vec<usize>)> {
    let operator = Operator::MaxPool(window);
    let to = shape_of(&operator, &[from])?.unwrap_or_default();
    Ok((operator, to))
}
