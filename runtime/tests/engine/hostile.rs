//! Graphs that are broken, foreign or too large: each is an error that says what to do, and
//! none takes the process down.

use crate::onnx::{Axis, DOUBLE, FLOAT, Message, graph, model, node, relu, value};
use drover_bundle::Tensor;
use drover_runtime::{Engine, LoadError, LoadOptions, Model, RunError, TractEngine};

fn load(bytes: &[u8]) -> Result<Box<dyn Model>, LoadError> {
    TractEngine.load(bytes, &LoadOptions::default())
}

fn refusal(bytes: &[u8]) -> String {
    match load(bytes) {
        Ok(model) => panic!("accepted: {:?} -> {:?}", model.input(), model.output()),
        Err(error) => error.to_string(),
    }
}

/// A message and all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

const X: &[Axis] = &[Axis::Size(1), Axis::Size(4)];

#[test]
fn an_open_batch_becomes_one() {
    for batch in [Axis::Named("N"), Axis::Open, Axis::Size(1)] {
        let mut model = load(&relu(&[batch, Axis::Size(4)])).unwrap();
        assert_eq!(model.input().shape, [1, 4]);
        assert_eq!(model.output().shape, [1, 4]);
        assert_eq!((&*model.input().name, &*model.output().name), ("x", "y"));
        let input = Tensor::from_f32(vec![1, 4], &[-1.0, 0.0, 0.5, 2.0]).unwrap();
        let output = model.run(&input).unwrap();
        assert_eq!(output.to_f32(), [0.0, 0.0, 0.5, 2.0]);
        assert_eq!(output.shape(), [1, 4]);
    }
}

#[test]
fn other_open_sizes_are_named() {
    assert_eq!(
        refusal(&relu(&[
            Axis::Named("N"),
            Axis::Named("time"),
            Axis::Size(4)
        ])),
        "input \"x\" has no fixed size along axis 1 (time); only the first axis of the input \
         may be left open, export the model with fixed sizes"
    );
    assert!(refusal(&relu(&[Axis::Size(1), Axis::Open])).contains("axis 1 (unnamed)"));
}

#[test]
fn no_prefix_of_a_model_is_a_model() {
    let whole = relu(X);
    for end in 0..whole.len() {
        refusal(&whole[..end]);
    }
}

#[test]
fn no_single_damaged_byte_ends_the_process() {
    let whole = relu(X);
    let mut accepted = 0;
    for at in 0..whole.len() {
        for flip in [0x01, 0x08, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            // A damaged name is still a model; whatever loads has to run.
            if let Ok(mut model) = load(&damaged) {
                let shape: Vec<usize> = model.input().shape.iter().map(|&d| d as usize).collect();
                let elements: usize = shape.iter().product();
                let input = Tensor::from_f32(shape, &vec![0.0; elements]);
                assert!(elements < 1 << 20, "{:?}", model.input());
                let _ = model.run(&input.unwrap());
                accepted += 1;
            }
        }
    }
    assert!(accepted > 0 && accepted < whole.len() * 4);
}

#[test]
fn noise_is_not_a_model() {
    // xorshift64, so that a failure comes back.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for length in 0..600 {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        refusal(&noise);
    }
    assert!(refusal(&[]).starts_with("model has no graph"));
}

#[test]
fn a_graph_that_is_not_connected_is_refused() {
    let dangling = graph(
        &[value("x", FLOAT, X)],
        &[value("nowhere", FLOAT, X)],
        &[node("Relu", &["x"], "y")],
    );
    refusal(&model(&dangling));
    let cycle = graph(
        &[value("x", FLOAT, X)],
        &[value("y", FLOAT, X)],
        &[node("Add", &["x", "z"], "y"), node("Relu", &["y"], "z")],
    );
    refusal(&model(&cycle));
    let no_output = graph(&[value("x", FLOAT, X)], &[], &[]);
    assert_eq!(refusal(&model(&no_output)), "graph has no output");
}

#[test]
fn inputs_are_counted_and_named() {
    let two = graph(
        &[value("a", FLOAT, X), value("b", FLOAT, X)],
        &[value("y", FLOAT, X)],
        &[node("Add", &["a", "b"], "y")],
    );
    assert_eq!(
        refusal(&model(&two)),
        "graph has 2 inputs (a, b), exactly one is supported; join them into one or turn the \
         others into constants"
    );
}

#[test]
fn of_several_outputs_the_first_is_taken() {
    let two = graph(
        &[value("x", FLOAT, X)],
        &[value("second", FLOAT, X), value("first", FLOAT, X)],
        &[
            node("Relu", &["x"], "first"),
            node("Neg", &["first"], "second"),
        ],
    );
    let mut model = load(&model(&two)).unwrap();
    assert_eq!(model.output().name, "second");
    let input = Tensor::from_f32(vec![1, 4], &[-1.0, 1.0, 2.0, 3.0]).unwrap();
    let output = model.run(&input).unwrap().to_f32();
    assert_eq!(output[1..], [-1.0, -2.0, -3.0]);
}

#[test]
fn unknown_operators_are_named_with_their_nodes() {
    let foreign = |operator: &str, domain: &str| {
        let nodes = [node(operator, &["x"], "y").bytes(7, domain)];
        let inputs = [value("x", FLOAT, X)];
        refusal(&model(&graph(&inputs, &[value("y", FLOAT, X)], &nodes)))
    };
    assert_eq!(
        foreign("QGemm", "com.microsoft"),
        "tract does not implement operator com.microsoft.QGemm (node \"node-of-y\"); rewrite \
         the graph without it"
    );
    // Somebody's own operator, though its name is known.
    assert!(foreign("Relu", "org.example").contains("operator org.example.Relu"));
}

#[test]
fn a_graph_that_makes_no_sense_names_its_node() {
    let wide = graph(
        &[value("x", FLOAT, X)],
        &[value("y", FLOAT, X)],
        &[node("Conv", &["x", "x"], "y")],
    );
    let Err(error) = load(&model(&wide)) else {
        panic!("a convolution without spatial axes was accepted");
    };
    let text = chain(&error);
    assert!(
        text.contains("node-of-y") || text.contains("Conv"),
        "{text}"
    );
}

#[test]
fn data_in_other_files_are_refused() {
    let entry = Message::default()
        .bytes(1, "location")
        .bytes(2, "../../etc/passwd");
    let tensor = Message::default()
        .int(1, 4)
        .int(2, FLOAT)
        .bytes(8, "weights")
        .nested(13, &entry)
        .int(14, 1);
    let graph = graph(
        &[value("x", FLOAT, X)],
        &[value("y", FLOAT, X)],
        &[node("Add", &["x", "weights"], "y")],
    );
    let message = refusal(&model(&graph.nested(5, &tensor)));
    assert!(
        message.starts_with("tensor \"weights\" keeps its data in another file"),
        "{message}"
    );
}

#[test]
fn element_types_that_tensors_do_not_have_are_refused() {
    let doubles = graph(
        &[value("x", DOUBLE, X)],
        &[value("y", DOUBLE, X)],
        &[node("Relu", &["x"], "y")],
    );
    assert_eq!(
        refusal(&model(&doubles)),
        "input \"x\" holds f64; supported are f32, i8, u8, i32 and i64"
    );
}

#[test]
fn sizes_over_the_limits_are_refused() {
    let bytes = relu(X);
    let options = LoadOptions {
        max_model_bytes: bytes.len() as u64 - 1,
        ..LoadOptions::default()
    };
    assert!(matches!(
        TractEngine.load(&bytes, &options),
        Err(LoadError::TooLarge { .. })
    ));
    let options = LoadOptions {
        max_tensor_bytes: 15,
        ..LoadOptions::default()
    };
    assert!(matches!(
        TractEngine.load(&bytes, &options),
        Err(LoadError::ValueTooLarge {
            bytes: 16,
            limit: 15,
            ..
        })
    ));
    let huge = relu(&[Axis::Size(1), Axis::Size(1 << 40), Axis::Size(1 << 40)]);
    assert!(matches!(load(&huge), Err(LoadError::ValueTooLarge { .. })));
}

/// A constant that claims `elements` floats and holds one.
fn claims(elements: u64) -> Vec<u8> {
    let tensor = Message::default().int(1, elements).int(2, FLOAT);
    let tensor = tensor.bytes(8, "w").bytes(9, 1f32.to_le_bytes());
    let nodes = [node("Add", &["x", "w"], "y")];
    let graph = graph(&[value("x", FLOAT, X)], &[value("y", FLOAT, X)], &nodes);
    model(&graph.nested(5, &tensor))
}

#[test]
fn constants_that_claim_more_than_the_limit_are_refused() {
    load(&claims(1)).unwrap();
    for elements in [1 << 28, 1 << 62, u64::MAX] {
        let refused = load(&claims(elements));
        let Err(LoadError::ValueTooLarge { node, .. }) = refused else {
            panic!("{elements} elements: {:?}", refused.err());
        };
        assert_eq!(node, "w");
    }
}

/// An attribute that is a list of numbers.
fn numbers(name: &str, list: &[i64]) -> Message {
    let attribute = Message::default().bytes(1, name).int(20, 7);
    list.iter()
        .fold(attribute, |a, number| a.int(8, number.cast_unsigned()))
}

#[test]
fn windows_larger_than_any_value_are_refused() {
    let pooled = |window: &[i64]| {
        let pool = node("MaxPool", &["x"], "y").nested(5, &numbers("kernel_shape", window));
        let x = value("x", FLOAT, &[1, 1, 6, 6].map(Axis::Size));
        let y = value("y", FLOAT, &[1, 1, 5, 5].map(Axis::Size));
        model(&graph(&[x], &[y], &[pool]))
    };
    load(&pooled(&[2, 2])).unwrap();
    // The library never returned from these.
    for window in [[2, 1 << 61], [1 << 31, 1 << 31], [i64::MIN, 1]] {
        let message = refusal(&pooled(&window));
        assert!(
            message.contains("kernel_shape of operator MaxPool"),
            "{message}"
        );
    }
}

#[test]
fn values_of_more_axes_than_a_tensor_has_are_refused() {
    let reshaped = |axes: usize| {
        let shape = Message::default().int(1, axes as u64).int(2, 7);
        let shape = shape
            .bytes(8, "s")
            .bytes(9, 1i64.to_le_bytes().repeat(axes));
        let x = value("x", FLOAT, &[Axis::Size(1)]);
        let y = value("y", FLOAT, &vec![Axis::Size(1); axes]);
        let nodes = [node("Relu", &["x"], "h"), node("Reshape", &["h", "s"], "y")];
        load(&model(&graph(&[x], &[y], &nodes).nested(5, &shape))).err()
    };
    assert!(reshaped(8).is_none());
    // The library takes minutes for hundreds of axes.
    let text = chain(&reshaped(600).unwrap());
    assert!(text.contains("axes, over the limit of 64"), "{text}");
}

#[test]
fn axes_that_no_tensor_has_are_refused() {
    let transposed = |name: &str, axes: &[i64]| {
        let attribute = numbers(name, axes);
        let relu = node("Relu", &["x"], "h");
        let transpose = node("Transpose", &["h"], "y").nested(5, &attribute);
        let x = value("x", FLOAT, &[Axis::Size(1), Axis::Size(2), Axis::Size(3)]);
        let y = value("y", FLOAT, &[]);
        model(&graph(&[x], &[y], &[relu, transpose]))
    };
    // The library never returned from this, and took all memory.
    for repeated in [
        &[0, 0, 0][..],
        &[1, 1, 0],
        &[0, 2, 2],
        &[0, 1, -1],
        &[3, 1, 2],
    ] {
        assert_eq!(
            refusal(&transposed("perm", repeated)),
            "attribute perm of operator Transpose (node \"node-of-y\") does not name each axis \
             once; the model is damaged or was made by hand"
        );
    }
    assert!(refusal(&transposed("axis", &[1 << 50])).contains("an axis that no tensor has"));
    for right in [&[0, 1, 2][..], &[2, 0, 1], &[]] {
        // What the output is said to be has no axes: only the attribute is at stake here.
        let refused = load(&transposed("perm", right)).err();
        assert!(!matches!(refused, Some(LoadError::Attribute { .. })));
    }
}

#[test]
fn an_input_of_another_form_is_refused_and_the_model_goes_on() {
    let mut model = load(&relu(X)).unwrap();
    let wrong = Tensor::from_f32(vec![4], &[0.0; 4]).unwrap();
    let error = model.run(&wrong).unwrap_err();
    assert!(matches!(error, RunError::Input { .. }));
    assert_eq!(
        error.to_string(),
        "input is f32 [4], the model takes f32 [1, 4]"
    );
    let right = wrong.reshaped(vec![1, 4]).unwrap();
    assert_eq!(model.run(&right).unwrap().to_f32(), [0.0; 4]);
}
