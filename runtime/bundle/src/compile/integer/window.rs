//! How windows of convolutions and pools go over an input: attributes to a [`Window`].

use super::super::graph::Node;
use super::Window;
use super::check::Checked;
use super::run::image;

impl Window {
    /// One window over everything.
    pub(super) fn whole(shape: &[usize]) -> Checked<Self> {
        let [_, _, height, width] = image(shape).ok_or("it has 1 or 2 spatial axes")?;
        Ok(Self {
            kernel: [height, width],
            strides: [1, 1],
            pads: [0; 4],
            dilations: [1, 1],
        })
    }
}

/// How the node's window goes over an input of `shape`, and whether its last windows reach
/// over the end.
pub(super) fn window(node: &Node, shape: &[usize], kernel: &[i64]) -> Checked<(Window, bool)> {
    let [_, _, height, width] = image(shape).ok_or("it has 1 or 2 spatial axes")?;
    let axes = shape.len() - 2;
    let sizes = |list: Option<&[i64]>, otherwise: usize, count: usize| -> Checked<Vec<usize>> {
        let Some(list) = list else {
            return Ok(vec![otherwise; count]);
        };
        let sizes: Option<Vec<usize>> = list.iter().map(|&n| usize::try_from(n).ok()).collect();
        let sizes = sizes.filter(|s| s.len() == count && s.iter().all(|&n| n < 1 << 16));
        sizes.ok_or_else(|| "its window does not fit its input".to_owned())
    };
    // A row is an image of height 1.
    let side = |list: Vec<usize>| match *list.as_slice() {
        [height, width] => [height, width],
        [width] => [1, width],
        _ => [0, 0],
    };
    let kernel = side(sizes(Some(kernel), 1, axes)?);
    let strides = side(sizes(node.ints("strides"), 1, axes)?);
    let dilations = side(sizes(node.ints("dilations"), 1, axes)?);
    let pads = sizes(node.ints("pads"), 0, 2 * axes)?;
    let mut pads = match *pads.as_slice() {
        [top, left, bottom, right] => [top, left, bottom, right],
        [left, right] => [0, left, 0, right],
        _ => [0; 4],
    };
    if strides.contains(&0) || kernel.contains(&0) {
        return Err("its window is empty".to_owned());
    }
    let mut overhangs = false;
    for (axis, length) in [height, width].into_iter().enumerate() {
        let extent = (kernel[axis] - 1) * dilations[axis] + 1;
        let automatic = node.text("auto_pad").unwrap_or("NOTSET");
        match automatic {
            "SAME_UPPER" | "SAME_LOWER" => {
                let windows = length.div_ceil(strides[axis]);
                let total = ((windows - 1) * strides[axis] + extent).saturating_sub(length);
                let small = total / 2;
                let upper = automatic == "SAME_UPPER";
                pads[axis] = if upper { small } else { total - small };
                pads[axis + 2] = total - pads[axis];
            }
            "VALID" => (pads[axis], pads[axis + 2]) = (0, 0),
            _ => {}
        }
        let padded = length + pads[axis] + pads[axis + 2];
        if node.int("ceil_mode").unwrap_or(0) != 0 && padded >= extent {
            let mut windows = (padded - extent).div_ceil(strides[axis]) + 1;
            // The last window begins inside of the input or its first padding.
            if (windows - 1) * strides[axis] >= length + pads[axis] {
                windows -= 1;
            }
            let missing = ((windows - 1) * strides[axis] + extent).saturating_sub(padded);
            overhangs |= missing > 0;
            pads[axis + 2] += missing;
        }
    }
    Ok((
        Window {
            kernel,
            strides,
            pads,
            dilations,
        },
        overhangs,
    ))
}
