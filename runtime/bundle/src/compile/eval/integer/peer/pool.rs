//! Averages and softmax.

use super::{run, same};
use crate::compile::array::ElementType;
use crate::compile::draft::Draft;
use crate::compile::graph::Attribute;

/// `QLinearSoftmax`: over one axis.
#[test]
fn softmax() {
    let graph = Draft::new(13)
        .u8("a", &[2, 3], &[122, 0, 193, 73, 223, 173])
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.00390625])
        .u8("e", &[], &[0])
        .node_with(
            "com.microsoft.QLinearSoftmax",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[("axis", Attribute::Int(0)), ("opset", Attribute::Int(13))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::U8,
        &[236.0, 0.0, 187.0, 20.0, 255.0, 69.0],
        1,
    );
}

/// `QLinearSoftmax`: over all axes from one on.
#[test]
fn softmax_flat() {
    let graph = Draft::new(13)
        .u8("a", &[1, 2, 3], &[161, 53, 201, 140, 248, 3])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.00390625])
        .u8("e", &[], &[0])
        .node_with(
            "com.microsoft.QLinearSoftmax",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[("axis", Attribute::Int(1)), ("opset", Attribute::Int(11))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 2, 3],
        ElementType::U8,
        &[26.0, 3.0, 59.0, 17.0, 150.0, 1.0],
        1,
    );
}

/// `QLinearAveragePool`: pads do not count.
#[test]
fn average() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 1, 4, 4],
            &[
                168, 71, 21, 203, 160, 206, 5, 28, 173, 49, 255, 95, 125, 197, 238, 105,
            ],
        )
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.04])
        .u8("e", &[], &[100])
        .node_with(
            "com.microsoft.QLinearAveragePool",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[
                ("kernel_shape", Attribute::Ints(vec![3, 3])),
                ("strides", Attribute::Ints(vec![2, 2])),
                ("pads", Attribute::Ints(vec![1, 1, 1, 1])),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 1, 2, 2],
        ElementType::U8,
        &[129.0, 51.0, 130.0, 104.0],
        0,
    );
}

/// `QLinearAveragePool`: pads count, sizes are rounded up.
#[test]
fn average_with_pads() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 1, 4, 4],
            &[
                5, 166, 247, 10, 43, 87, 214, 124, 76, 41, 100, 240, 33, 60, 9, 25,
            ],
        )
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.04])
        .u8("e", &[], &[100])
        .node_with(
            "com.microsoft.QLinearAveragePool",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[
                ("kernel_shape", Attribute::Ints(vec![3, 3])),
                ("strides", Attribute::Ints(vec![2, 2])),
                ("pads", Attribute::Ints(vec![1, 1, 0, 0])),
                ("ceil_mode", Attribute::Int(1)),
                ("count_include_pad", Attribute::Int(1)),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 1, 2, 2],
        ElementType::U8,
        &[71.0, 111.0, 41.0, 65.0],
        0,
    );
}

/// `QLinearAveragePool`: channels behind the spatial axes.
#[test]
fn average_channels_last() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 4, 2],
            &[
                192, 210, 191, 143, 31, 252, 159, 198, 65, 176, 229, 159, 34, 26, 150, 94,
            ],
        )
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.04])
        .u8("e", &[], &[100])
        .node_with(
            "com.microsoft.QLinearAveragePool",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[
                ("kernel_shape", Attribute::Ints(vec![2, 2])),
                ("channels_last", Attribute::Int(1)),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 1, 3, 2],
        ElementType::U8,
        &[152.0, 155.0, 92.0, 121.0, 57.0, 118.0],
        0,
    );
}

/// `QLinearGlobalAveragePool`: over all spatial axes.
#[test]
fn global_average() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 2, 3],
            &[227, 32, 137, 244, 171, 84, 207, 191, 180, 188, 211, 67],
        )
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.02])
        .u8("e", &[], &[100])
        .node_with(
            "com.microsoft.QLinearGlobalAveragePool",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[("channels_last", Attribute::Int(0))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(&made[0], &[1, 2, 1, 1], ElementType::U8, &[153.0, 215.0], 0);
}

/// `QLinearGlobalAveragePool`: channels behind the spatial axes.
#[test]
fn global_average_channels_last() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 3, 2],
            &[57, 89, 233, 206, 128, 196, 234, 39, 178, 57, 187, 22],
        )
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[128])
        .f32("d", &[], &[0.02])
        .u8("e", &[], &[100])
        .node_with(
            "com.microsoft.QLinearGlobalAveragePool",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[("channels_last", Attribute::Int(1))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(&made[0], &[1, 1, 1, 2], ElementType::U8, &[204.0, 34.0], 0);
}
