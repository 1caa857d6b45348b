//! Sums of products.

use super::{run, same};
use crate::compile::array::ElementType;
use crate::compile::draft::Draft;
use crate::compile::graph::Attribute;

/// `ConvInteger`: pads are zero points.
#[test]
fn conv_integer() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 3, 3],
            &[
                104, 241, 53, 170, 23, 34, 133, 127, 127, 126, 219, 128, 93, 245, 226, 89, 51, 57,
            ],
        )
        .i8("b", &[1, 2, 2, 2], &[-85, 6, 19, 36, 102, 112, 9, 21])
        .u8("c", &[], &[100])
        .node_with(
            "ConvInteger",
            &["a", "b", "c"],
            &["y"],
            &[
                ("pads", Attribute::Ints(vec![1, 0, 0, 1])),
                ("kernel_shape", Attribute::Ints(vec![2, 2])),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 1, 3, 3],
        ElementType::I32,
        &[
            7885.0, 2646.0, -641.0, 18026.0, 3119.0, 6731.0, 9585.0, 35192.0, 18588.0,
        ],
        0,
    );
}

/// `MatMulInteger`: a zero point for each column.
#[test]
fn matmul_integer() {
    let graph = Draft::new(13)
        .u8("a", &[2, 3], &[20, 68, 255, 238, 6, 125])
        .i8("b", &[3, 2], &[-1, 45, -98, -6, -34, -72])
        .u8("c", &[], &[120])
        .i8("d", &[2], &[3, -4])
        .node("MatMulInteger", &["a", "b", "c", "d"], &["y"])
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 2],
        ElementType::I32,
        &[657.0, -13976.0, 10857.0, 5670.0],
        0,
    );
}

/// `QLinearConv`: depthwise, uneven pads and strides, scales per channel, bias.
#[test]
fn conv_groups() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 4, 5],
            &[
                207, 177, 46, 197, 137, 48, 169, 117, 122, 92, 249, 43, 254, 56, 205, 246, 32, 226,
                8, 97, 136, 189, 43, 10, 75, 234, 84, 137, 18, 209, 245, 70, 217, 96, 77, 89, 39,
                248, 24, 109,
            ],
        )
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[110])
        .i8(
            "d",
            &[2, 1, 3, 3],
            &[
                34, 0, -103, 116, 91, 103, -91, -27, -25, -49, -126, 78, 61, -100, -81, -27, 105,
                96,
            ],
        )
        .f32("e", &[2], &[0.01, 0.03])
        .i8("f", &[2], &[0, 0])
        .f32("g", &[], &[0.05])
        .u8("h", &[], &[90])
        .i32("i", &[2], &[300, -500])
        .node_with(
            "QLinearConv",
            &["a", "b", "c", "d", "e", "f", "g", "h", "i"],
            &["y"],
            &[
                ("group", Attribute::Int(2)),
                ("strides", Attribute::Ints(vec![2, 1])),
                ("pads", Attribute::Ints(vec![1, 0, 0, 1])),
                ("kernel_shape", Attribute::Ints(vec![3, 3])),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 2, 2, 4],
        ElementType::U8,
        &[
            150.0, 111.0, 102.0, 139.0, 127.0, 119.0, 156.0, 141.0, 32.0, 255.0, 178.0, 207.0,
            195.0, 0.0, 255.0, 44.0,
        ],
        0,
    );
}

/// `QLinearConv`: the engine finds the pads.
#[test]
fn conv_auto_pad() {
    let graph = Draft::new(13)
        .i8(
            "a",
            &[1, 1, 4, 5],
            &[
                -95, 106, -53, -68, 122, -107, -118, 73, -65, 31, -42, -67, -24, 2, -89, -109, 125,
                51, -40, 7,
            ],
        )
        .f32("b", &[], &[0.02])
        .i8("c", &[], &[-10])
        .i8(
            "d",
            &[2, 1, 2, 3],
            &[119, 52, 22, -105, -115, 37, 36, -33, 14, 0, 88, -42],
        )
        .f32("e", &[], &[0.01])
        .i8("f", &[], &[0])
        .f32("g", &[], &[0.02])
        .i8("h", &[], &[5])
        .node_with(
            "QLinearConv",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
            &[
                ("auto_pad", Attribute::String("SAME_UPPER".into())),
                ("strides", Attribute::Ints(vec![2, 2])),
                ("kernel_shape", Attribute::Ints(vec![2, 3])),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 2, 2, 3],
        ElementType::I8,
        &[
            58.0, 106.0, 15.0, 127.0, -128.0, -10.0, 9.0, 127.0, -23.0, -128.0, 57.0, 50.0,
        ],
        0,
    );
}

/// `QLinearConv`: one spatial axis, dilated.
#[test]
fn conv_dilated_row() {
    let graph = Draft::new(13)
        .u8(
            "a",
            &[1, 2, 7],
            &[
                139, 162, 186, 145, 149, 157, 11, 16, 79, 57, 242, 18, 147, 98,
            ],
        )
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .u8("d", &[1, 2, 3], &[221, 123, 34, 28, 199, 170])
        .f32("e", &[], &[0.01])
        .u8("f", &[], &[128])
        .f32("g", &[], &[0.03])
        .u8("h", &[], &[100])
        .node_with(
            "QLinearConv",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
            &[
                ("dilations", Attribute::Ints(vec![2])),
                ("kernel_shape", Attribute::Ints(vec![3])),
                ("pads", Attribute::Ints(vec![1, 1])),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[1, 1, 5],
        ElementType::U8,
        &[97.0, 102.0, 194.0, 195.0, 43.0],
        0,
    );
}

/// `QLinearMatMul`: unsigned by signed.
#[test]
fn matmul() {
    let graph = Draft::new(13)
        .u8("a", &[2, 4], &[195, 124, 137, 128, 149, 152, 1, 239])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .i8(
            "d",
            &[4, 3],
            &[15, 23, 68, -104, 33, -90, 6, 49, -79, -45, 30, 65],
        )
        .f32("e", &[], &[0.01])
        .i8("f", &[], &[0])
        .f32("g", &[], &[0.04])
        .u8("h", &[], &[120])
        .node(
            "QLinearMatMul",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::U8,
        &[127.0, 129.0, 141.0, 80.0, 112.0, 203.0],
        0,
    );
}

/// `QLinearMatMul`: a scale for each column.
#[test]
fn matmul_per_column() {
    let graph = Draft::new(13)
        .u8("a", &[2, 4], &[4, 130, 163, 97, 12, 189, 196, 46])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .i8(
            "d",
            &[4, 3],
            &[86, -55, -42, -53, -67, -22, 5, 104, -10, 80, -20, 82],
        )
        .f32("e", &[3], &[0.01, 0.02, 0.005])
        .i8("f", &[3], &[0, 0, 0])
        .f32("g", &[], &[0.04])
        .u8("h", &[], &[120])
        .node(
            "QLinearMatMul",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::U8,
        &[55.0, 229.0, 126.0, 23.0, 230.0, 110.0],
        0,
    );
}

/// `QGemm`: transposed weights and bias.
#[test]
fn gemm() {
    let graph = Draft::new(13)
        .u8("a", &[1, 4], &[178, 161, 184, 2])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .i8(
            "d",
            &[3, 4],
            &[51, -55, 52, 0, -116, 102, 63, -35, -28, 13, 115, 89],
        )
        .f32("e", &[3], &[0.01, 0.02, 0.005])
        .i8("f", &[3], &[0, 0, 0])
        .i32("g", &[3], &[100, -900, 5000])
        .f32("h", &[], &[0.06])
        .u8("i", &[], &[100])
        .node_with(
            "com.microsoft.QGemm",
            &["a", "b", "c", "d", "e", "f", "g", "h", "i"],
            &["y"],
            &[("transB", Attribute::Int(1))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(&made[0], &[1, 3], ElementType::U8, &[112.0, 131.0, 99.0], 0);
}

/// `QGemm`: no scale for the result.
#[test]
fn gemm_to_float() {
    let graph = Draft::new(13)
        .u8("a", &[2, 4], &[14, 87, 42, 191, 193, 152, 224, 134])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .i8("d", &[4, 2], &[37, 33, 39, -4, -35, -99, 30, 101])
        .f32("e", &[], &[0.01])
        .i8("f", &[], &[0])
        .i32("g", &[2], &[100, -900])
        .node_with(
            "com.microsoft.QGemm",
            &["a", "b", "c", "d", "e", "f", "g"],
            &["y"],
            &[("alpha", Attribute::Float(0.5))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 2],
        ElementType::F32,
        &[-0.0817, 1.0379, 0.026099999, -0.77489996],
        0,
    );
}

/// `MatMulIntegerToFloat`: a bias in floats.
#[test]
fn matmul_to_float() {
    let graph = Draft::new(13)
        .u8("a", &[2, 3], &[87, 248, 155, 213, 214, 90])
        .i8("b", &[3, 2], &[-117, 34, 111, 69, 46, -112])
        .f32("c", &[], &[0.02])
        .f32("d", &[2], &[0.01, 0.03])
        .u8("e", &[], &[128])
        .i8("f", &[2], &[0, 0])
        .f32("g", &[2], &[0.5, -0.25])
        .node(
            "com.microsoft.MatMulIntegerToFloat",
            &["a", "b", "c", "d", "e", "f", "g"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 2],
        ElementType::F32,
        &[4.3718, 2.0672, 0.0706, 7.5979996],
        0,
    );
}

/// `DynamicQuantizeMatMul`: the left factor is quantised first.
#[test]
fn dynamic_matmul() {
    let graph = Draft::new(13)
        .f32(
            "a",
            &[2, 3],
            &[
                0.5391006, 1.5089997, 1.219719, -2.2698238, -1.717882, -5.2826777,
            ],
        )
        .i8("b", &[3, 2], &[-65, 9, 63, 85, -86, 124])
        .f32("c", &[], &[0.03])
        .i8("d", &[], &[0])
        .f32("e", &[2], &[0.5, -0.25])
        .node(
            "com.microsoft.DynamicQuantizeMatMul",
            &["a", "b", "c", "d", "e"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 2],
        ElementType::F32,
        &[-0.8303697, 8.322695, 15.298665, -24.825485],
        0,
    );
}
