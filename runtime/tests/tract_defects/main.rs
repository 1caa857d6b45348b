//! What tract computes wrongly and the compiler works around, each with a report beside this
//! file that could be handed to tract's authors.
//!
//! A test here fails when a version of tract gets it right: then the workaround that its
//! message names is unnecessary and goes, with the report. Beside it stands a test that the
//! compiled form of the same graph is right, which must hold with any version.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod graph;

use drover_bundle::compile::{Array, Data, ElementType, Graph, Numerics, compile, eval, export};
use drover_bundle::{DType, Tensor};
use drover_runtime::{Engine as _, LoadOptions, TractEngine};

use graph::{divided, through_softmax, through_unary};

/// What tract makes of a file, or why it does not load or run it.
fn through_tract(model: &[u8], input: &Array) -> Result<Vec<f64>, String> {
    let options = LoadOptions::default();
    let loaded = TractEngine.load(model, &options);
    let mut model = loaded.map_err(|e| causes(&e))?;
    let output = model.run(&tensor(input)).map_err(|e| e.to_string())?;
    Ok(output.to_f32().into_iter().map(f64::from).collect())
}

fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |e| e.source());
    let all: Vec<String> = all.map(ToString::to_string).collect();
    all.join(": ")
}

fn tensor(array: &Array) -> Tensor {
    let shape = array.shape().to_vec();
    match array.data() {
        Data::F32(v) => Tensor::from_f32(shape, v).unwrap(),
        Data::U8(v) => Tensor::from_bytes(DType::U8, shape, v.clone()).unwrap(),
        Data::I8(v) => {
            let bytes = v.iter().map(|x| x.cast_unsigned()).collect();
            Tensor::from_bytes(DType::I8, shape, bytes).unwrap()
        }
        other => unreachable!("no graph here takes {other:?}"),
    }
}

/// What the graph means.
fn meant(graph: &Graph, input: &Array) -> Vec<f64> {
    let outputs = eval::run(graph, std::slice::from_ref(input)).unwrap();
    outputs[0].to_f64().unwrap()
}

/// The graph compiled, through tract.
fn compiled(graph: &Graph, input: &Array) -> Vec<f64> {
    let compiled = compile(&export(graph), Numerics::Exact).unwrap();
    through_tract(&compiled.model, input).unwrap()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

/// `softmax_table.md`
#[test]
fn tract_makes_a_table_of_softmax() {
    for element in [ElementType::I8, ElementType::U8] {
        let (graph, input) = through_softmax(element);
        let direct = through_tract(&export(&graph), &input).unwrap();
        assert!(
            largest_difference(&direct, &meant(&graph, &input)) > 100.0,
            "tract fixed softmax_table.md: that quantisers never reach it, for which lower.rs \
             carries scales along, is no longer needed for being right"
        );
    }
}

#[test]
fn a_compiled_softmax_is_right() {
    for element in [ElementType::I8, ElementType::U8] {
        let (graph, input) = through_softmax(element);
        let steps = largest_difference(&compiled(&graph, &input), &meant(&graph, &input));
        assert!(steps <= 1.0, "{element}: {steps} steps off");
    }
}

/// `mixed_table.md`
#[test]
fn tract_refuses_a_table_between_two_types() {
    for (from, to) in [
        (ElementType::I8, ElementType::U8),
        (ElementType::U8, ElementType::I8),
    ] {
        let (graph, input) = through_unary("Tanh", from, to);
        let why = through_tract(&export(&graph), &input).err();
        let why = why.expect(
            "tract fixed mixed_table.md: that quantisers never reach it, for which lower.rs \
             carries scales along, is no longer needed for loading",
        );
        assert!(why.contains("substitute"), "another reason: {why}");
    }
    // Of one type it is right, which is why the report blames the types.
    let (graph, input) = through_unary("Tanh", ElementType::I8, ElementType::I8);
    let direct = through_tract(&export(&graph), &input).unwrap();
    assert!(largest_difference(&direct, &meant(&graph, &input)) <= 1.0);
}

#[test]
fn a_compiled_function_between_two_types_is_right() {
    for op in ["Tanh", "Sigmoid"] {
        for (from, to) in [
            (ElementType::I8, ElementType::U8),
            (ElementType::U8, ElementType::I8),
        ] {
            let (graph, input) = through_unary(op, from, to);
            let steps = largest_difference(&compiled(&graph, &input), &meant(&graph, &input));
            assert!(steps <= 1.0, "{op} of {from} as {to}: {steps} steps off");
        }
    }
}

/// `division.md`
#[test]
fn tract_multiplies_where_it_should_divide() {
    let (graph, input) = divided(false);
    let direct = through_tract(&export(&graph), &input).unwrap();
    assert!(
        direct != meant(&graph, &input),
        "tract fixed division.md: the division in doubles of lower/dynamic.rs (`quotient`) can \
         be a plain one"
    );
}

#[test]
fn a_compiled_quantiser_divides_exactly() {
    let (graph, input) = divided(true);
    assert_eq!(compiled(&graph, &input), meant(&graph, &input));
}
