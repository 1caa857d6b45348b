//! Operators that move elements and compute none: shapes, axes, parts and copies.
//!
//! Every one of them says for each element of its result where it comes from, by one list of
//! offsets per axis ([`select::grid`]), and takes all of them in one step ([`select::select`]).
//! So each works for every element type. [`argument`] reads what operators are told.

pub(super) mod argument;
mod extend;
mod form;
mod order;
mod part;
mod pick;
pub(super) mod select;
#[cfg(test)]
mod tests;

use super::Kernel;

pub(super) fn kernel(domain: &str, op: &str) -> Option<Kernel> {
    if !matches!(domain, "" | "ai.onnx") {
        return None;
    }
    Some(match op {
        "Identity" | "Dropout" => form::identity,
        "Reshape" => form::reshape,
        "Flatten" => form::flatten,
        "Squeeze" => form::squeeze,
        "Unsqueeze" => form::unsqueeze,
        "Shape" => form::shape,
        "Size" => form::size,
        "Transpose" => order::transpose,
        "DepthToSpace" => order::depth_to_space,
        "SpaceToDepth" => order::space_to_depth,
        "Concat" => part::concat,
        "Split" => part::split,
        "Slice" => part::slice,
        "Gather" => part::gather,
        "GatherElements" => pick::gather_elements,
        "GatherND" => pick::gather_nd,
        "Trilu" => pick::triangle,
        "OneHot" => pick::one_hot,
        "Expand" => extend::expand,
        "Tile" => extend::tile,
        "Pad" => extend::pad,
        "ConstantOfShape" => extend::constant_of_shape,
        "Range" => extend::range,
        _ => return None,
    })
}
