//! Shapes of convolutions and pools.

use super::{Inputs, Shape};

/// The shape of the first output of an operator with windows.
pub(super) fn shape(inputs: &Inputs<'_>) -> Option<Shape> {
    let weight = match inputs.node.op.as_str() {
        "Conv" | "ConvInteger" => Some(inputs.shape(1)?),
        "QLinearConv" => Some(inputs.shape(3)?),
        "ConvTranspose" => return transposed(inputs),
        "MaxPool" | "AveragePool" | "LpPool" => None,
        "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            let mut shape = inputs.shape(0)?;
            shape.get_mut(2..)?.fill(1);
            return Some(shape);
        }
        _ => return None,
    };
    let mut shape = inputs.shape(0)?;
    let rank = shape.len().checked_sub(2)?;
    let kernel = kernel(inputs, weight.as_deref(), rank)?;
    if let Some(weight) = &weight {
        shape[1] = *weight.first()?;
    }
    let list = |name: &str, otherwise: usize| list_of(inputs, name, rank, otherwise);
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    let mut pads = list_of(inputs, "pads", 2 * rank, 0)?;
    let auto = inputs.node.text("auto_pad").unwrap_or("NOTSET");
    if auto == "VALID" {
        pads.fill(0);
    }
    for axis in 0..rank {
        let (size, stride) = (shape[2 + axis], strides[axis]);
        if stride == 0 || kernel[axis] == 0 {
            return None;
        }
        if auto.starts_with("SAME") {
            shape[2 + axis] = size.div_ceil(stride);
            continue;
        }
        let window = (kernel[axis] - 1)
            .checked_mul(dilations[axis])?
            .checked_add(1)?;
        let front = size.checked_add(pads[axis])?;
        let room = front.checked_add(pads[rank + axis])?.checked_sub(window)?;
        let mut steps = room / stride;
        // A window that would begin behind the input and its front padding is none.
        if inputs.int("ceil_mode", 0) != 0
            && room % stride != 0
            && (steps + 1).checked_mul(stride)? < front
        {
            steps += 1;
        }
        shape[2 + axis] = steps.checked_add(1)?;
    }
    Some(shape)
}

fn transposed(inputs: &Inputs<'_>) -> Option<Shape> {
    let mut shape = inputs.shape(0)?;
    let weight = inputs.shape(1)?;
    let rank = shape.len().checked_sub(2)?;
    let kernel = kernel(inputs, Some(&weight), rank)?;
    let group = usize::try_from(inputs.int("group", 1)).ok()?;
    shape[1] = weight.get(1)?.checked_mul(group)?;
    let list = |name: &str, otherwise: usize| list_of(inputs, name, rank, otherwise);
    let (strides, dilations) = (list("strides", 1)?, list("dilations", 1)?);
    let more = list("output_padding", 0)?;
    let mut pads = list_of(inputs, "pads", 2 * rank, 0)?;
    let auto = inputs.node.text("auto_pad").unwrap_or("NOTSET");
    if auto == "VALID" {
        pads.fill(0);
    }
    if inputs.node.ints("output_shape").is_some() {
        let stated = list_of(inputs, "output_shape", rank, 0)?;
        shape.truncate(2);
        shape.extend(stated);
        return Some(shape);
    }
    for axis in 0..rank {
        let size = &mut shape[2 + axis];
        if auto.starts_with("SAME") {
            *size = size.checked_mul(strides[axis])?;
            continue;
        }
        let window = kernel[axis].checked_sub(1)?;
        let window = window.checked_mul(dilations[axis])?.checked_add(1)?;
        let steps = size.checked_sub(1)?.checked_mul(strides[axis])?;
        let whole = steps.checked_add(window)?.checked_add(more[axis])?;
        *size = whole
            .checked_sub(pads[axis])?
            .checked_sub(pads[rank + axis])?;
    }
    Some(shape)
}

fn kernel(inputs: &Inputs<'_>, weight: Option<&[usize]>, rank: usize) -> Option<Shape> {
    match weight {
        Some(weight) => weight
            .get(2..)
            .filter(|k| k.len() == rank)
            .map(<[usize]>::to_vec),
        None => {
            inputs.node.ints("kernel_shape")?;
            list_of(inputs, "kernel_shape", rank, 1)
        }
    }
}

/// The attribute `name` of `length` numbers, which are all `otherwise` where it is left out.
fn list_of(inputs: &Inputs<'_>, name: &str, length: usize, otherwise: usize) -> Option<Shape> {
    let Some(values) = inputs.node.ints(name) else {
        return Some(vec![otherwise; length]);
    };
    if values.len() != length {
        return None;
    }
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}
