//! Operators that work element by element.

use super::{of, run, same};
use crate::compile::array::{Data, ElementType};
use crate::compile::draft::Draft;
use crate::compile::graph::Attribute;

/// `QLinearAdd`: of different scales, stretched.
#[test]
fn add() {
    let graph = Draft::new(13)
        .u8("a", &[2, 3], &[16, 180, 84, 213, 192, 100])
        .f32("b", &[], &[0.02])
        .u8("c", &[], &[128])
        .u8("d", &[3], &[8, 192, 240])
        .f32("e", &[], &[0.05])
        .u8("f", &[], &[90])
        .f32("g", &[], &[0.06])
        .u8("h", &[], &[110])
        .node(
            "com.microsoft.QLinearAdd",
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
        &[4.0, 212.0, 220.0, 70.0, 216.0, 226.0],
        0,
    );
}

/// `QLinearMul`: of different scales.
#[test]
fn mul() {
    let graph = Draft::new(13)
        .i8("a", &[2, 3], &[-29, -58, 110, -42, 70, -60])
        .f32("b", &[], &[0.02])
        .i8("c", &[], &[-3])
        .i8("d", &[2, 3], &[-31, -19, 72, -126, -111, -40])
        .f32("e", &[], &[0.05])
        .i8("f", &[], &[9])
        .f32("g", &[], &[0.06])
        .i8("h", &[], &[-20])
        .node(
            "com.microsoft.QLinearMul",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::I8,
        &[-3.0, 6.0, 99.0, 68.0, -128.0, 27.0],
        0,
    );
}

/// `QLinearSigmoid`: by its formula.
#[test]
fn sigmoid() {
    let graph = Draft::new(13)
        .i8("a", &[6], &[108, -125, 49, 86, -44, 126])
        .f32("b", &[], &[0.05])
        .i8("c", &[], &[3])
        .f32("d", &[], &[0.00390625])
        .i8("e", &[], &[-128])
        .node(
            "com.microsoft.QLinearSigmoid",
            &["a", "b", "c", "d", "e"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[6],
        ElementType::I8,
        &[127.0, -128.0, 105.0, 124.0, -106.0, 127.0],
        0,
    );
}

/// `QLinearLeakyRelu`: its slope.
#[test]
fn leaky_relu() {
    let graph = Draft::new(13)
        .u8("a", &[6], &[165, 117, 200, 72, 160, 189])
        .f32("b", &[], &[0.05])
        .u8("c", &[], &[120])
        .f32("d", &[], &[0.06])
        .u8("e", &[], &[30])
        .node_with(
            "com.microsoft.QLinearLeakyRelu",
            &["a", "b", "c", "d", "e"],
            &["y"],
            &[("alpha", Attribute::Float(0.1))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[6],
        ElementType::U8,
        &[68.0, 30.0, 97.0, 26.0, 63.0, 88.0],
        0,
    );
}

/// `QLinearConcat`: parts of different scales.
#[test]
fn concat() {
    let graph = Draft::new(13)
        .f32("a", &[], &[0.05])
        .u8("b", &[], &[100])
        .u8("c", &[2, 1], &[226, 55])
        .f32("d", &[], &[0.02])
        .u8("e", &[], &[128])
        .u8("f", &[2, 2], &[106, 112, 81, 135])
        .f32("g", &[], &[0.07])
        .u8("h", &[], &[90])
        .node_with(
            "com.microsoft.QLinearConcat",
            &["a", "b", "c", "d", "e", "f", "g", "h"],
            &["y"],
            &[("axis", Attribute::Int(1))],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(
        &made[0],
        &[2, 3],
        ElementType::U8,
        &[139.0, 122.0, 131.0, 71.0, 87.0, 163.0],
        0,
    );
}

/// `QLinearWhere`: one of two by a condition.
#[test]
fn choose() {
    let graph = Draft::new(13)
        .constant("a", of(&[3], Data::Bool(vec![true, false, true])))
        .u8("b", &[3], &[94, 142, 72])
        .f32("c", &[], &[0.02])
        .u8("d", &[], &[128])
        .u8("e", &[1], &[160])
        .f32("f", &[], &[0.07])
        .u8("g", &[], &[90])
        .f32("h", &[], &[0.05])
        .u8("i", &[], &[100])
        .node(
            "com.microsoft.QLinearWhere",
            &["a", "b", "c", "d", "e", "f", "g", "h", "i"],
            &["y"],
        )
        .output("y")
        .graph();
    let made = run(&graph);
    same(&made[0], &[3], ElementType::U8, &[86.0, 198.0, 78.0], 0);
}

/// `QLinearAdd` and `QLinearMul` round with the zero point added, the other operators without.
#[test]
fn halves_of_sums_and_products() {
    for (op, other, wanted) in [
        ("com.microsoft.QLinearAdd", 0, [2.0, 2.0, 4.0]),
        ("com.microsoft.QLinearMul", 1, [2.0, 2.0, 4.0]),
        ("com.microsoft.QLinearConcat", 0, [1.0, 3.0, 3.0]),
    ] {
        let inputs = match op {
            "com.microsoft.QLinearConcat" => &["one", "z", "a", "half", "none"][..],
            _ => &["a", "half", "none", "b", "one", "none", "one", "z"],
        };
        let graph = Draft::new(13)
            .u8("a", &[3], &[1, 3, 5])
            .u8("b", &[1], &[other])
            .f32("half", &[], &[0.5])
            .f32("one", &[], &[1.0])
            .u8("none", &[], &[0])
            .u8("z", &[], &[1])
            .node_with(op, inputs, &["y"], &[("axis", Attribute::Int(0))])
            .output("y")
            .graph();
        let made = run(&graph);
        same(&made[0], &[3], ElementType::U8, &wanted, 0);
    }
}
