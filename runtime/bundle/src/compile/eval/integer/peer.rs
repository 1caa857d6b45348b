//! Small cases of every quantised operator with the answers of onnxruntime 1.32.

use crate::compile::array::{Array, Data, ElementType};
use crate::compile::draft::Draft;
use crate::compile::eval;
use crate::compile::graph::{Attribute, Graph};

mod element;
mod linear;
mod pool;
mod quantise;

fn of(shape: &[usize], data: Data) -> Array {
    Array::new(shape.to_vec(), data).unwrap()
}

fn run(graph: &Graph) -> Vec<Array> {
    eval::run(graph, &[]).unwrap()
}

/// Integers may differ by `steps`, floats by what one rounding makes.
fn same(made: &Array, shape: &[usize], element: ElementType, wanted: &[f32], steps: i32) {
    assert_eq!((made.shape(), made.element()), (shape, element));
    let made = made.to_f64().unwrap();
    for (got, wanted) in made.iter().zip(wanted) {
        let wanted = f64::from(*wanted);
        let room = match element {
            ElementType::F32 => wanted.abs() * 1e-6,
            _ => f64::from(steps),
        };
        assert!((got - wanted).abs() <= room, "{made:?}");
    }
}

/// Parameters that make no sense are refused by their operator, not by a panic.
#[test]
fn hostile_parameters_are_errors() {
    type Bad = (&'static str, Vec<f32>, Vec<u8>, &'static str);
    let cases: [Bad; 6] = [
        ("QuantizeLinear", vec![0.0], vec![1], "divides nothing"),
        ("QuantizeLinear", vec![-1.0], vec![1], "divides nothing"),
        ("QuantizeLinear", vec![f32::NAN], vec![1], "not finite"),
        ("QuantizeLinear", vec![], vec![], "empty"),
        ("QuantizeLinear", vec![1.0, 2.0], vec![1, 2], "do not fit"),
        (
            "QuantizeLinear",
            vec![1.0, 2.0],
            vec![1, 2, 3],
            "do not fit",
        ),
    ];
    for (op, scale, zero, reason) in cases {
        let graph = Draft::new(13)
            .f32("x", &[1, 4], &[1.0; 4])
            .f32("s", &[scale.len()], &scale)
            .u8("z", &[zero.len()], &zero)
            .node(op, &["x", "s", "z"], &["y"])
            .output("y")
            .graph();
        let error = eval::run(&graph, &[]).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// Geometry that no memory would hold, or that does not fit, is refused.
#[test]
fn hostile_windows_are_errors() {
    let ints = |v: &[i64]| Attribute::Ints(v.to_vec());
    let cases = [
        ("strides", ints(&[0, 1])),
        ("strides", ints(&[1])),
        ("pads", ints(&[1 << 40, 0, 0, 0])),
        ("pads", ints(&[-1, 0, 0, 0])),
        ("dilations", ints(&[1 << 27, 1 << 27])),
        ("group", Attribute::Int(0)),
        ("group", Attribute::Int(i64::MAX)),
        ("auto_pad", Attribute::String("ALL".into())),
    ];
    for (name, attribute) in cases {
        let graph = Draft::new(13)
            .u8("x", &[1, 1, 3, 3], &[1; 9])
            .u8("w", &[1, 1, 2, 2], &[1; 4])
            .node_with("ConvInteger", &["x", "w"], &["y"], &[(name, attribute)])
            .output("y")
            .graph();
        assert!(eval::run(&graph, &[]).is_err(), "{name}");
    }
}
