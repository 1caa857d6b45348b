//! The rules of float operators that are easily got wrong, against values made by hand.

use super::super::example::{
    Float, Int, Ints, apply, apply_all, apply_at, count, f32s, i64s, text, values,
};
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::graph::Attribute;

/// A kernel of ones sums what each window sees.
fn sums(
    shape: &[usize],
    kernel: &[usize],
    attributes: &[(&str, Attribute)],
) -> Result<Array, String> {
    let weights = [&[1, 1], kernel].concat();
    let ones = vec![1.0; kernel.iter().product()];
    apply("Conv", &[&count(shape), &f32s(&weights, &ones)], attributes)
}

#[test]
fn windows_are_placed_by_pads_strides_and_dilations() {
    let plain = sums(&[1, 1, 5], &[2], &[]);
    assert_eq!(values(&plain, &[1, 1, 4]), [3.0, 5.0, 7.0, 9.0]);
    let wide = sums(&[1, 1, 5], &[2], &[("dilations", Ints(vec![3]))]);
    assert_eq!(values(&wide, &[1, 1, 2]), [5.0, 7.0]);
    let uneven = [("pads", Ints(vec![0, 2])), ("strides", Ints(vec![2]))];
    let uneven = sums(&[1, 1, 5], &[3], &uneven);
    assert_eq!(values(&uneven, &[1, 1, 3]), [6.0, 12.0, 5.0]);
    let cube = sums(&[1, 1, 2, 2, 2], &[2, 2, 2], &[]);
    assert_eq!(values(&cube, &[1, 1, 1, 1, 1]), [36.0]);
}

/// An odd pad goes behind with SAME_UPPER and in front with SAME_LOWER.
#[test]
fn automatic_pads_are_uneven() {
    let by = |mode: &str| {
        let told = [("auto_pad", text(mode)), ("strides", Ints(vec![2]))];
        values(&sums(&[1, 1, 4], &[3], &told), &[1, 1, 2])
    };
    assert_eq!(by("SAME_UPPER"), [6.0, 7.0]);
    assert_eq!(by("SAME_LOWER"), [3.0, 9.0]);
    let valid = [("auto_pad", text("VALID")), ("pads", Ints(vec![1, 1]))];
    assert_eq!(values(&sums(&[1, 1, 4], &[4], &valid), &[1, 1, 1]), [10.0]);
}

#[test]
fn groups_have_channels_of_their_own() {
    let input = count(&[1, 4, 1]);
    let weights = f32s(&[2, 2, 1], &[1.0, 10.0, 1.0, 10.0]);
    let bias = f32s(&[2], &[0.5, -0.5]);
    let result = apply("Conv", &[&input, &weights, &bias], &[("group", Int(2))]);
    assert_eq!(values(&result, &[1, 2, 1]), [21.5, 42.5]);
    apply("Conv", &[&input, &weights], &[]).unwrap_err();
    apply(
        "Conv",
        &[&input, &weights, &count(&[3])],
        &[("group", Int(2))],
    )
    .unwrap_err();
    apply("Conv", &[&input, &weights], &[("group", Int(0))]).unwrap_err();
    apply("Conv", &[&input, &weights], &[("strides", Ints(vec![0]))]).unwrap_err();
}

#[test]
fn a_transposed_convolution_spreads_its_input() {
    let weights = f32s(&[1, 1, 3], &[1.0, 2.0, 3.0]);
    let by = |told: &[_]| apply("ConvTranspose", &[&count(&[1, 1, 2]), &weights], told);
    let stride = ("strides", Ints(vec![2]));
    let plain = by(std::slice::from_ref(&stride));
    assert_eq!(values(&plain, &[1, 1, 5]), [1.0, 2.0, 5.0, 4.0, 6.0]);
    let cut = by(&[stride.clone(), ("pads", Ints(vec![1, 0]))]);
    assert_eq!(values(&cut, &[1, 1, 4]), [2.0, 5.0, 4.0, 6.0]);
    let more = by(&[stride.clone(), ("output_padding", Ints(vec![1]))]);
    assert_eq!(values(&more, &[1, 1, 6]), [1.0, 2.0, 5.0, 4.0, 6.0, 0.0]);
    let same = by(&[stride.clone(), ("auto_pad", text("SAME_UPPER"))]);
    assert_eq!(values(&same, &[1, 1, 4]), [1.0, 2.0, 5.0, 4.0]);
    let told = by(&[stride, ("output_shape", Ints(vec![4]))]);
    assert_eq!(values(&told, &[1, 1, 4]), [2.0, 5.0, 4.0, 6.0]);
}

#[test]
fn matrices_multiply_by_the_rules_of_numpy() {
    let row = apply("MatMul", &[&count(&[2]), &count(&[2, 3])], &[]);
    assert_eq!(values(&row, &[3]), [9.0, 12.0, 15.0]);
    let single = apply("MatMul", &[&count(&[2]), &count(&[2])], &[]);
    assert_eq!(values(&single, &[]), [5.0]);
    let stack = apply("MatMul", &[&count(&[2, 1, 1, 2]), &count(&[3, 2, 1])], &[]);
    let expected = [5.0, 11.0, 17.0, 11.0, 25.0, 39.0];
    assert_eq!(values(&stack, &[2, 3, 1, 1]), expected);
    // Long enough to be summed by eights, with a rest.
    let long = apply("MatMul", &[&count(&[37]), &count(&[37])], &[]);
    assert_eq!(values(&long, &[]), [17_575.0]);
    apply("MatMul", &[&count(&[2, 3]), &count(&[2, 3])], &[]).unwrap_err();
    apply("MatMul", &[&Array::scalar(1.0), &count(&[1])], &[]).unwrap_err();
}

#[test]
fn gemm_turns_scales_and_adds() {
    let (a, b) = (count(&[2, 1]), count(&[3, 2]));
    let c = f32s(&[3], &[10.0, 20.0, 30.0]);
    let told = [
        ("transA", Int(1)),
        ("transB", Int(1)),
        ("alpha", Float(2.0)),
        ("beta", Float(0.5)),
    ];
    let result = apply("Gemm", &[&a, &b, &c], &told);
    assert_eq!(values(&result, &[1, 3]), [15.0, 32.0, 49.0]);
    apply("Gemm", &[&a, &b, &count(&[2, 3])], &told).unwrap_err();
}

#[test]
fn padding_counts_in_a_mean_only_where_told() {
    let by = |more: &[(&str, _)]| {
        let mut told = vec![
            ("kernel_shape", Ints(vec![3])),
            ("pads", Ints(vec![1, 0])),
            ("strides", Ints(vec![2])),
        ];
        told.extend_from_slice(more);
        apply("AveragePool", &[&count(&[1, 1, 4])], &told)
    };
    assert_eq!(values(&by(&[]), &[1, 1, 2]), [1.5, 3.0]);
    assert_eq!(
        values(&by(&[("count_include_pad", Int(1))]), &[1, 1, 2]),
        [1.0, 3.0]
    );
    // What lies behind input and padding never counts.
    let both = [("count_include_pad", Int(1)), ("ceil_mode", Int(1))];
    let told = [("kernel_shape", Ints(vec![2])), ("strides", Ints(vec![2]))];
    let ceil = apply(
        "AveragePool",
        &[&count(&[1, 1, 3])],
        &[&told[..], &both].concat(),
    );
    assert_eq!(values(&ceil, &[1, 1, 2]), [1.5, 3.0]);
}

/// A last window that would start in the padding behind the input is left out.
#[test]
fn rounding_up_starts_no_window_behind_the_input() {
    let told = [
        ("kernel_shape", Ints(vec![1])),
        ("strides", Ints(vec![2])),
        ("pads", Ints(vec![0, 0])),
        ("ceil_mode", Int(1)),
    ];
    let result = apply("MaxPool", &[&count(&[1, 1, 2])], &told);
    assert_eq!(values(&result, &[1, 1, 1]), [1.0]);
}

#[test]
fn the_largest_is_found_among_negative_and_small_integers() {
    let told = [("kernel_shape", Ints(vec![2])), ("pads", Ints(vec![1, 0]))];
    let input = Array::new(vec![1, 1, 3], Data::I8(vec![-5, -7, -128])).unwrap();
    let result = apply("MaxPool", &[&input], &told).unwrap();
    assert_eq!(result.data(), &Data::I8(vec![-5, -5, -7]));
    let input = Array::new(vec![1, 2, 1], Data::U8(vec![200, 3])).unwrap();
    let result = apply("MaxPool", &[&input], &[("kernel_shape", Ints(vec![1]))]).unwrap();
    assert_eq!(result.data(), &Data::U8(vec![200, 3]));
}

fn close(result: &Result<Array, String>, shape: &[usize], expected: &[f64]) {
    for (got, want) in values(result, shape).iter().zip(expected) {
        assert!((got - want).abs() < 1e-6, "{got} is not {want}");
    }
}

/// All axes from `axis` on are one row before operator set 13.
#[test]
fn softmax_changed_its_meaning() {
    let input = f32s(&[1, 2, 2], &[0.0, 0.0, 0.0, 3f32.ln()]);
    let old = apply_at(11, "Softmax", &[&input], &[]);
    close(&old, &[1, 2, 2], &[1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0, 0.5]);
    let new = apply_at(13, "Softmax", &[&input], &[]);
    close(&new, &[1, 2, 2], &[0.5, 0.5, 0.25, 0.75]);
    let first = apply_at(13, "Softmax", &[&input], &[("axis", Int(1))]);
    close(&first, &[1, 2, 2], &[0.5, 0.25, 0.5, 0.75]);
    let log = apply("LogSoftmax", &[&f32s(&[2], &[0.0, 1000.0])], &[]);
    close(&log, &[2], &[-1000.0, 0.0]);
}

#[test]
fn axes_are_reduced_by_attribute_and_by_input() {
    let input = count(&[2, 3]);
    let old = apply("ReduceMean", &[&input], &[("axes", Ints(vec![-1]))]);
    assert_eq!(values(&old, &[2, 1]), [2.0, 5.0]);
    let told = [("keepdims", Int(0))];
    let new = apply("ReduceSum", &[&input, &i64s(&[0])], &told);
    assert_eq!(values(&new, &[3]), [5.0, 7.0, 9.0]);
    assert_eq!(values(&apply("ReduceMax", &[&input], &told), &[]), [6.0]);
    let same = [("noop_with_empty_axes", Int(1))];
    assert_eq!(apply("ReduceSum", &[&input], &same).unwrap(), input);
    close(
        &apply("ReduceL2", &[&f32s(&[2], &[3.0, 4.0])], &told),
        &[],
        &[5.0],
    );
    let large = apply("ReduceLogSumExp", &[&f32s(&[2], &[1000.0, 1000.0])], &told);
    assert_eq!(
        values(&large, &[]),
        [f64::from((1000.0 + 2f64.ln()) as f32)]
    );
}

#[test]
fn the_first_of_equals_is_the_largest() {
    let input = f32s(&[2, 3], &[1.0, 3.0, 3.0, 2.0, 2.0, 0.0]);
    let axis = ("axis", Int(1));
    let first = apply("ArgMax", &[&input], std::slice::from_ref(&axis));
    assert_eq!(first.as_ref().unwrap().element(), ElementType::I64);
    assert_eq!(values(&first, &[2, 1]), [1.0, 0.0]);
    let last = [axis, ("select_last_index", Int(1)), ("keepdims", Int(0))];
    assert_eq!(values(&apply("ArgMax", &[&input], &last), &[2]), [2.0, 1.0]);
    let down = apply("ArgMin", &[&input], &[]);
    assert_eq!(values(&down, &[1, 3]), [0.0, 1.0, 1.0]);
}

#[test]
fn bounds_come_as_attributes_or_inputs_of_which_one_may_be_missing() {
    let input = f32s(&[3], &[-2.0, 1.0, 9.0]);
    let old = apply_at(6, "Clip", &[&input], &[("max", Float(6.0))]);
    assert_eq!(values(&old, &[3]), [-2.0, 1.0, 6.0]);
    let six = Array::scalar(6.0);
    let new = apply_all(13, "Clip", vec![Some(&input), None, Some(&six)], 1, &[]);
    assert_eq!(new.unwrap()[0].as_f32().unwrap(), [-2.0, 1.0, 6.0]);
    apply("Clip", &[&input, &count(&[2])], &[]).unwrap_err();
}

#[test]
fn halves_are_rounded_to_even() {
    let input = f32s(&[5], &[0.5, 1.5, 2.5, -0.5, -2.5]);
    let rounded = apply("Round", &[&input], &[]);
    assert_eq!(values(&rounded, &[5]), [0.0, 2.0, 2.0, 0.0, -2.0]);
}

#[test]
fn activations_have_the_defaults_of_onnx() {
    let input = f32s(&[3], &[-1.0, 0.5, 4.0]);
    let cases: [(&str, [f64; 3]); 8] = [
        ("LeakyRelu", [-0.01, 0.5, 4.0]),
        ("HardSigmoid", [0.3, 0.6, 1.0]),
        ("HardSwish", [-1.0 / 3.0, 0.5 * (0.5 / 6.0 + 0.5), 4.0]),
        ("Elu", [(-1f64).exp() - 1.0, 0.5, 4.0]),
        ("Selu", [-1.111_330_7, 0.525_350_5, 4.202_804]),
        ("Sigmoid", [0.268_941_4, 0.622_459_3, 0.982_013_8]),
        ("Gelu", [-0.158_655_3, 0.345_731_2, 3.999_873_3]),
        ("Softplus", [0.313_261_7, 0.974_077, 4.018_149_9]),
    ];
    for (op, expected) in cases {
        close(&apply(op, &[&input], &[]), &[3], &expected);
    }
    let slopes = apply(
        "PRelu",
        &[&count(&[1, 2, 1]), &f32s(&[2, 1], &[0.1, 0.2])],
        &[],
    );
    assert_eq!(values(&slopes, &[1, 2, 1]), [1.0, 2.0]);
}

#[test]
fn shapes_of_pairs_are_stretched_to_each_other() {
    let sum = apply("Add", &[&count(&[2, 1]), &count(&[3])], &[]);
    assert_eq!(values(&sum, &[2, 3]), [2.0, 3.0, 4.0, 3.0, 4.0, 5.0]);
    apply("Add", &[&count(&[2]), &count(&[3])], &[]).unwrap_err();
    apply("Add", &[&count(&[2]), &i64s(&[1, 2])], &[]).unwrap_err();
    // Before operator set 7 an attribute said where the smaller one stands.
    let old = [("broadcast", Int(1)), ("axis", Int(0))];
    let old = apply_at(6, "Mul", &[&count(&[2, 2]), &count(&[2])], &old);
    assert_eq!(values(&old, &[2, 2]), [1.0, 2.0, 6.0, 8.0]);
}

#[test]
fn integers_divide_towards_zero_and_never_by_it() {
    let (a, b) = (i64s(&[7, -7, i64::MIN]), i64s(&[2, 2, -1]));
    let result = apply("Div", &[&a, &b], &[]).unwrap();
    assert_eq!(result.as_i64().unwrap(), [3, -3, i64::MIN]);
    let result = apply("Mod", &[&i64s(&[-7, 7]), &i64s(&[3, -3])], &[]);
    assert_eq!(values(&result, &[2]), [2.0, -2.0]);
    apply("Div", &[&a, &i64s(&[0])], &[]).unwrap_err();
    let power = apply("Pow", &[&i64s(&[3]), &Array::scalar(2.0)], &[]);
    assert_eq!(values(&power, &[1]), [9.0]);
}

#[test]
fn conditions_choose_and_types_change() {
    let input = count(&[3]);
    let large = apply("Greater", &[&input, &Array::scalar(1.5)], &[]).unwrap();
    let chosen = apply("Where", &[&large, &input, &Array::scalar(0.0)], &[]);
    assert_eq!(values(&chosen, &[3]), [0.0, 2.0, 3.0]);
    let small = apply("Not", &[&large], &[]).unwrap();
    let any = apply("Or", &[&large, &small], &[]);
    assert_eq!(values(&any, &[3]), [1.0; 3]);
    let cut = apply("Cast", &[&f32s(&[2], &[2.7, -2.7])], &[("to", Int(6))]);
    assert_eq!(cut.unwrap().data(), &Data::I32(vec![2, -2]));
}

#[test]
fn channels_are_normalised() {
    let input = f32s(&[1, 2, 2], &[1.0, 3.0, 10.0, 20.0]);
    let (ones, none) = (f32s(&[2], &[1.0, 1.0]), f32s(&[2], &[0.0, 0.0]));
    let tiny = [("epsilon", Float(0.0))];
    let own = apply("InstanceNormalization", &[&input, &ones, &none], &tiny);
    close(&own, &[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0]);
    let mean = f32s(&[2], &[1.0, 10.0]);
    let variance = f32s(&[2], &[4.0, 25.0]);
    let trained = [&input, &ones, &none, &mean, &variance];
    let trained = apply("BatchNormalization", &trained, &tiny);
    close(&trained, &[1, 2, 2], &[0.0, 1.0, 0.0, 2.0]);
    let last = apply("LayerNormalization", &[&input, &ones], &tiny);
    close(&last, &[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0]);
    let told = [
        ("size", Int(3)),
        ("alpha", Float(3.0)),
        ("beta", Float(1.0)),
    ];
    let around = apply("LRN", &[&f32s(&[1, 2, 1], &[1.0, 2.0])], &told);
    close(&around, &[1, 2, 1], &[1.0 / 6.0, 2.0 / 6.0]);
}

#[test]
fn the_nearest_element_depends_on_the_coordinates() {
    let input = count(&[1, 1, 1, 4]);
    let scales = f32s(&[4], &[1.0, 1.0, 1.0, 0.5]);
    let none = f32s(&[0], &[]);
    let by = |mode: &str| {
        let attributes = [("coordinate_transformation_mode", text(mode))];
        values(
            &apply("Resize", &[&input, &none, &scales], &attributes),
            &[1, 1, 1, 2],
        )
    };
    assert_eq!(by("asymmetric"), [1.0, 3.0]);
    assert_eq!(by("align_corners"), [1.0, 4.0]);
    let old = apply_at(
        9,
        "Upsample",
        &[&input, &f32s(&[4], &[1.0, 1.0, 1.0, 1.5])],
        &[],
    );
    assert_eq!(values(&old, &[1, 1, 1, 6]), [1.0, 1.0, 2.0, 3.0, 3.0, 4.0]);
}

#[test]
fn elements_are_interpolated() {
    let input = f32s(&[1, 1, 1, 2], &[1.0, 5.0]);
    let (none, scales) = (f32s(&[0], &[]), f32s(&[4], &[1.0, 1.0, 1.0, 2.0]));
    let by = |mode: &str, coordinates: &str| {
        let attributes = [
            ("mode", text(mode)),
            ("coordinate_transformation_mode", text(coordinates)),
        ];
        apply("Resize", &[&input, &none, &scales], &attributes)
    };
    let half = by("linear", "half_pixel");
    close(&half, &[1, 1, 1, 4], &[1.0, 2.0, 4.0, 5.0]);
    let corners = by("linear", "align_corners");
    close(&corners, &[1, 1, 1, 4], &[1.0, 7.0 / 3.0, 11.0 / 3.0, 5.0]);
    by("linear", "tf_crop_and_resize").unwrap_err();
}

#[test]
fn axes_are_looked_along_in_their_order() {
    let input = f32s(&[4], &[1.0, 3.0, 2.0, 3.0]);
    let (two, axis) = (i64s(&[2]), i64s(&[0]));
    let top = apply_all(13, "TopK", vec![Some(&input), Some(&two)], 2, &[]).unwrap();
    assert_eq!(top[0].as_f32().unwrap(), [3.0, 3.0]);
    assert_eq!(top[1].as_i64().unwrap(), [1, 3]);
    apply("TopK", &[&input, &i64s(&[5])], &[]).unwrap_err();
    let sums = apply("CumSum", &[&input, &axis], &[]);
    assert_eq!(values(&sums, &[4]), [1.0, 4.0, 6.0, 9.0]);
    let told = [("exclusive", Int(1)), ("reverse", Int(1))];
    let sums = apply("CumSum", &[&input, &axis], &told);
    assert_eq!(values(&sums, &[4]), [8.0, 5.0, 3.0, 0.0]);
}

#[test]
fn groups_and_lengths_are_normalised() {
    let input = f32s(&[1, 2, 2], &[1.0, 3.0, 10.0, 20.0]);
    let (scale, shift) = (f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[0.0, 1.0]));
    let told = [("num_groups", Int(2)), ("epsilon", Float(0.0))];
    let groups = apply("GroupNormalization", &[&input, &scale, &shift], &told);
    close(&groups, &[1, 2, 2], &[-1.0, 1.0, -1.0, 3.0]);
    let row = f32s(&[2], &[3.0, -4.0]);
    let unit = apply("LpNormalization", &[&row], &[]);
    close(&unit, &[2], &[0.6, -0.8]);
    let square = apply(
        "RMSNormalization",
        &[&row, &scale],
        &[("epsilon", Float(0.0))],
    );
    close(
        &square,
        &[2],
        &[3.0 / 12.5f64.sqrt(), -8.0 / 12.5f64.sqrt()],
    );
    let along = [("axes", Ints(vec![0]))];
    let mean = apply("MeanVarianceNormalization", &[&row], &along);
    close(&mean, &[2], &[1.0, -1.0]);
}
