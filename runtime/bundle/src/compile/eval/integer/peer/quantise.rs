//! Conversions between real and quantised numbers.

use super::{of, run, same};
use crate::compile::array::{Data, ElementType};
use crate::compile::draft::Draft;
use crate::compile::graph::Attribute;

/// `QuantizeLinear`: halves go to the even neighbour, ends saturate.
#[test]
fn quantise_half_to_even() {
    let graph = Draft::new(13)
        .f32("a", &[7], &[0.25, 0.75, -0.25, -0.75, 1.25, 200.0, -200.0])
        .f32("b", &[], &[0.5])
        .u8("c", &[], &[3])
        .node("QuantizeLinear", &["a", "b", "c"], &["y"])
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[7],
        ElementType::U8,
        &[3.0, 5.0, 3.0, 1.0, 5.0, 255.0, 0.0],
        0,
    );
}

/// `QuantizeLinear`: one scale for each column.
#[test]
fn quantise_per_axis() {
    let graph = Draft::new(13)
        .f32(
            "a",
            &[2, 3],
            &[
                -13.035823,
                -3.494346,
                33.27448,
                13.182955,
                -32.827946,
                -0.104065284,
            ],
        )
        .f32("b", &[3], &[0.5, 0.25, 0.125])
        .i8("c", &[3], &[1, -2, 3])
        .node_with(
            "QuantizeLinear",
            &["a", "b", "c"],
            &["y"],
            &[("axis", Attribute::Int(1))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::I8,
        &[-25.0, -16.0, 127.0, 27.0, -128.0, 2.0],
        0,
    );
}

/// `QuantizeLinear`: sixteen bits.
#[test]
fn quantise_to_i16() {
    let graph = Draft::new(21)
        .f32("a", &[4], &[-12.4692745, 2.9726305, -32.163757, 4.835438])
        .f32("b", &[], &[0.001])
        .constant("c", of(&[], Data::I16(vec![-5])))
        .node("QuantizeLinear", &["a", "b", "c"], &["y"])
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[4],
        ElementType::I16,
        &[-12474.0, 2968.0, -32169.0, 4830.0],
        0,
    );
}

/// `QuantizeLinear`: no zero point but a type.
#[test]
fn quantise_to_named_type() {
    let graph = Draft::new(21)
        .f32("a", &[4], &[4.707618, 31.51252, 6.3329005, 10.210934])
        .f32("b", &[], &[0.3])
        .node_with(
            "QuantizeLinear",
            &["a", "b"],
            &["y"],
            &[("output_dtype", Attribute::Int(3))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[4],
        ElementType::I8,
        &[16.0, 105.0, 21.0, 34.0],
        0,
    );
}

/// `DequantizeLinear`: one scale and zero point for each row.
#[test]
fn dequantise_per_axis() {
    let graph = Draft::new(13)
        .u8("a", &[2, 3], &[246, 251, 238, 94, 187, 248])
        .f32("b", &[2], &[0.5, 0.25])
        .u8("c", &[2], &[128, 7])
        .node_with(
            "DequantizeLinear",
            &["a", "b", "c"],
            &["y"],
            &[("axis", Attribute::Int(0))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::F32,
        &[59.0, 61.5, 55.0, 21.75, 45.0, 60.25],
        0,
    );
}

/// `DequantizeLinear`: sums have no zero point.
#[test]
fn dequantise_i32() {
    let graph = Draft::new(13)
        .i32("a", &[2], &[7, -123456])
        .f32("b", &[], &[0.0123])
        .node("DequantizeLinear", &["a", "b"], &["y"])
        .output("y")
        .graph();
    let made = run(&graph);
    same(&made[0], &[2], ElementType::F32, &[0.0861, -1518.5088], 0);
}

/// `DequantizeLinear`: a scale for each two rows.
#[test]
fn dequantise_blocks() {
    let graph = Draft::new(21)
        .i8("a", &[4, 2], &[19, 109, 23, -82, -9, 28, -50, 52])
        .f32("b", &[2, 2], &[0.5, 0.25, 2.0, 4.0])
        .node_with(
            "DequantizeLinear",
            &["a", "b"],
            &["y"],
            &[
                ("axis", Attribute::Int(0)),
                ("block_size", Attribute::Int(2)),
            ],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[4, 2],
        ElementType::F32,
        &[9.5, 27.25, 11.5, -20.5, -18.0, 112.0, -100.0, 208.0],
        0,
    );
}

/// `DynamicQuantizeLinear`: the range always holds zero.
#[test]
fn dynamic() {
    let graph = Draft::new(13)
        .f32("a", &[4], &[1.5, -2.25, 7.5, 0.0])
        .node("DynamicQuantizeLinear", &["a"], &["y", "y1", "y2"])
        .output("y")
        .output("y1")
        .output("y2")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[4],
        ElementType::U8,
        &[98.0, 0.0, 255.0, 59.0],
        0,
    );
    same(&made[1], &[], ElementType::F32, &[0.038235296], 0);
    same(&made[2], &[], ElementType::U8, &[59.0], 0);
}

/// `DynamicQuantizeLinear`: the range always holds zero.
#[test]
fn dynamic_of_positive() {
    let graph = Draft::new(13)
        .f32("a", &[3], &[1.5, 2.25, 7.5])
        .node("DynamicQuantizeLinear", &["a"], &["y", "y1", "y2"])
        .output("y")
        .output("y1")
        .output("y2")
        .graph();
    let made = run(&graph);
    same(&made[0], &[3], ElementType::U8, &[51.0, 76.0, 255.0], 0);
    same(&made[1], &[], ElementType::F32, &[0.029411765], 0);
    same(&made[2], &[], ElementType::U8, &[0.0], 0);
}

/// `DynamicQuantizeLinear`: nothing to divide by.
#[test]
fn dynamic_of_zeros() {
    let graph = Draft::new(13)
        .f32("a", &[3], &[0.0, 0.0, 0.0])
        .node("DynamicQuantizeLinear", &["a"], &["y", "y1", "y2"])
        .output("y")
        .output("y1")
        .output("y2")
        .graph();
    let made = run(&graph);
    same(&made[0], &[3], ElementType::U8, &[0.0, 0.0, 0.0], 0);
    same(&made[1], &[], ElementType::F32, &[1.0], 0);
    same(&made[2], &[], ElementType::U8, &[0.0], 0);
}
