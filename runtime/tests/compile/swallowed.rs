//! A ReLU that a quantiser swallowed: exporters drop it where the quantiser's lower end is
//! zero, and whoever then takes the quantiser away has a network without it.

use drover_bundle::Tensor;
use drover_bundle::compile::array::{Array, Data};
use drover_bundle::compile::graph::{Node, ValueId};
use drover_bundle::compile::{ElementType, Graph, Numerics, compile, export};

use crate::case::load;

/// Three hidden values between two MatMuls, quantised with steps of 1/4 from zero up.
fn network(low: Data) -> Vec<u8> {
    let mut graph = Graph::default();
    graph.opset = 13;
    let array = |shape: &[usize], data| Array::new(shape.to_vec(), data).unwrap();
    let first = array(&[2, 3], Data::I8(vec![2, -4, 80, 2, -4, 80]));
    let second = array(&[3, 1], Data::I8(vec![1, 100, 2]));
    let constants = [
        ("first", first),
        ("half", Array::scalar(0.5)),
        ("quarter", Array::scalar(0.25)),
        ("low", array(&[], low)),
        ("second", second),
        ("one", Array::scalar(1.0)),
    ];
    for (name, array) in constants {
        graph.add_constant(name, array);
    }
    let input = graph.add_value("x");
    graph.value_mut(input).element = Some(ElementType::F32);
    graph.value_mut(input).shape = Some(vec![Some(1), Some(2)]);
    graph.inputs.push(input);
    for (op, inputs, output) in [
        ("DequantizeLinear", &["first", "half"][..], "first_real"),
        ("MatMul", &["x", "first_real"], "hidden"),
        ("QuantizeLinear", &["hidden", "quarter", "low"], "steps"),
        ("DequantizeLinear", &["steps", "quarter", "low"], "clamped"),
        ("DequantizeLinear", &["second", "one"], "second_real"),
        ("MatMul", &["clamped", "second_real"], "y"),
    ] {
        let inputs: Vec<ValueId> = inputs.iter().map(|n| graph.find(n).unwrap()).collect();
        let made = graph.add_value(output);
        graph.nodes.push(Node::new(output, op, &inputs, made));
    }
    let output = graph.find("y").unwrap();
    graph.value_mut(output).element = Some(ElementType::F32);
    graph.value_mut(output).shape = Some(vec![Some(1), Some(1)]);
    graph.outputs.push(output);
    export(&graph)
}

#[test]
fn a_swallowed_relu_is_back() {
    for low in [Data::U8(vec![0]), Data::I8(vec![-128])] {
        let model = network(low);
        for numerics in [Numerics::Exact, Numerics::Float] {
            let compiled = compile(&model, numerics).unwrap();
            let mut model = load(&compiled.model).unwrap();
            let mut answer = |a: f32, b: f32| {
                let input = Tensor::from_f32(vec![1, 2], &[a, b]).unwrap();
                model.run(&input).unwrap().to_f32()[0]
            };
            // Hidden are 1, -2 and 40: the second is nothing.
            assert!((answer(0.5, 0.5) - 81.0).abs() < 1e-4, "{numerics:?}");
            // Hidden are -1, 2 and -40.
            assert!((answer(-0.5, -0.5) - 200.0).abs() < 1e-4, "{numerics:?}");
            // Hidden are 2, -4 and 80, of which 255 quarters are the most there is.
            assert!((answer(1.0, 1.0) - 129.5).abs() < 1e-4, "{numerics:?}");
        }
    }
}
