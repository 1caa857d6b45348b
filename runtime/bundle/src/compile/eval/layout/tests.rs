//! The rules of layout that are easily got wrong, against values made by hand.

use super::super::example::{
    Int, Ints, apply, apply_all, apply_at, count, f32s, i64s, text, values,
};
use crate::compile::array::{Array, Data, ElementType};

#[test]
fn reshape_keeps_axes_of_zero_and_fills_an_open_one() {
    let input = count(&[2, 3, 4]);
    let reshaped = apply("Reshape", &[&input, &i64s(&[0, -1, 2])], &[]);
    assert_eq!(reshaped.unwrap().shape(), [2, 6, 2]);
    let empty = Array::new(vec![0, 3], Data::F32(Vec::new())).unwrap();
    let kept = apply(
        "Reshape",
        &[&empty, &i64s(&[3, 0])],
        &[("allowzero", Int(1))],
    );
    assert_eq!(kept.unwrap().shape(), [3, 0]);
    for refused in [&[5, -1][..], &[-1, -1], &[2, 2], &[-2, 12]] {
        apply("Reshape", &[&input, &i64s(refused)], &[]).unwrap_err();
    }
}

#[test]
fn flatten_takes_the_place_behind_the_last_axis_too() {
    let input = count(&[2, 3, 4]);
    for (axis, shape) in [(0, [1, 24]), (1, [2, 12]), (3, [24, 1]), (-1, [6, 4])] {
        let flat = apply("Flatten", &[&input], &[("axis", Int(axis))]);
        assert_eq!(flat.unwrap().shape(), shape);
    }
    apply("Flatten", &[&input], &[("axis", Int(4))]).unwrap_err();
}

#[test]
fn axes_are_squeezed_by_attribute_and_by_input() {
    let input = count(&[1, 3, 1]);
    let old = apply_at(11, "Squeeze", &[&input], &[("axes", Ints(vec![-1]))]);
    assert_eq!(old.unwrap().shape(), [1, 3]);
    let new = apply("Squeeze", &[&input, &i64s(&[0])], &[]);
    assert_eq!(new.unwrap().shape(), [3, 1]);
    assert_eq!(apply("Squeeze", &[&input], &[]).unwrap().shape(), [3]);
    apply("Squeeze", &[&input, &i64s(&[1])], &[]).unwrap_err();
    let more = apply("Unsqueeze", &[&input, &i64s(&[-1, 0])], &[]);
    assert_eq!(more.unwrap().shape(), [1, 1, 3, 1, 1]);
    apply("Unsqueeze", &[&input, &i64s(&[0, 0])], &[]).unwrap_err();
}

#[test]
fn shape_is_cut_to_a_part() {
    let input = count(&[2, 3, 4]);
    let part = apply("Shape", &[&input], &[("start", Int(-2)), ("end", Int(9))]);
    assert_eq!(values(&part, &[2]), [3.0, 4.0]);
    let none = apply("Shape", &[&input], &[("start", Int(2)), ("end", Int(1))]);
    assert_eq!(none.unwrap().shape(), [0]);
}

#[test]
fn axes_change_places_for_every_element_type() {
    let turned = apply("Transpose", &[&count(&[2, 3])], &[]);
    assert_eq!(values(&turned, &[3, 2]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let half = Data::Other {
        code: 10,
        bytes: vec![1, 2, 3, 4, 5, 6, 7, 8],
    };
    let half = Array::new(vec![2, 2], half).unwrap();
    let turned = apply("Transpose", &[&half], &[("perm", Ints(vec![1, 0]))]).unwrap();
    let expected = Data::Other {
        code: 10,
        bytes: vec![1, 2, 5, 6, 3, 4, 7, 8],
    };
    assert_eq!(turned.data(), &expected);
    for perm in [vec![0], vec![0, 0], vec![0, 2]] {
        apply("Transpose", &[&count(&[2, 3])], &[("perm", Ints(perm))]).unwrap_err();
    }
}

/// The two modes differ in whether channels count inside or outside of a block.
#[test]
fn depth_goes_to_space_and_back() {
    let input = count(&[1, 8, 1, 1]);
    let block = ("blocksize", Int(2));
    let inside = apply("DepthToSpace", &[&input], std::slice::from_ref(&block));
    let expected = [1.0, 3.0, 5.0, 7.0, 2.0, 4.0, 6.0, 8.0];
    assert_eq!(values(&inside, &[1, 2, 2, 2]), expected);
    let outside = apply(
        "DepthToSpace",
        &[&input],
        &[block.clone(), ("mode", text("CRD"))],
    );
    assert_eq!(
        values(&outside, &[1, 2, 2, 2]),
        values(&Ok(count(&[8])), &[8])
    );
    let back = apply("SpaceToDepth", &[&inside.unwrap()], &[block]);
    assert_eq!(back.unwrap(), input);
}

#[test]
fn parts_are_joined_along_an_axis_and_split_again() {
    let (a, b) = (count(&[2, 1]), f32s(&[2, 2], &[7.0, 8.0, 9.0, 10.0]));
    let joined = apply("Concat", &[&a, &b], &[("axis", Int(-1))]);
    let expected = [1.0, 7.0, 8.0, 2.0, 9.0, 10.0];
    assert_eq!(values(&joined, &[2, 3]), expected);
    let joined = joined.unwrap();
    let sizes = i64s(&[1, 2]);
    let axis = [("axis", Int(1))];
    let parts = apply_all(13, "Split", vec![Some(&joined), Some(&sizes)], 2, &axis);
    assert_eq!(parts.unwrap(), [a.clone(), b]);
    let by_attribute = [("axis", Int(1)), ("split", Ints(vec![1, 2]))];
    let parts = apply_all(11, "Split", vec![Some(&joined)], 2, &by_attribute);
    assert_eq!(parts.unwrap()[0], a);
    // Without sizes the last part may be shorter.
    let parts = apply_all(18, "Split", vec![Some(&count(&[5]))], 3, &[]).unwrap();
    let lengths: Vec<usize> = parts.iter().map(Array::len).collect();
    assert_eq!(lengths, [2, 2, 1]);
    apply("Concat", &[&a, &i64s(&[1])], &axis).unwrap_err();
}

fn sliced(starts: &[i64], ends: &[i64], steps: &[i64]) -> Vec<f64> {
    let given = [starts, ends, &[0], steps].map(i64s);
    let result = apply(
        "Slice",
        &[&count(&[5]), &given[0], &given[1], &given[2], &given[3]],
        &[],
    )
    .unwrap();
    result.to_f64().unwrap()
}

#[test]
fn slices_are_cut_to_the_axis_and_run_backwards() {
    assert_eq!(sliced(&[1], &[i64::MAX], &[2]), [2.0, 4.0]);
    assert_eq!(sliced(&[-2], &[9], &[1]), [4.0, 5.0]);
    assert_eq!(sliced(&[9], &[0], &[-2]), [5.0, 3.0]);
    assert_eq!(sliced(&[-1], &[i64::MIN], &[-1]), [5.0, 4.0, 3.0, 2.0, 1.0]);
    assert_eq!(sliced(&[-9], &[i64::MIN], &[-1]), [1.0]);
    assert_eq!(sliced(&[3], &[3], &[1]), [0.0; 0]);
    let old = [("starts", Ints(vec![0, 1])), ("ends", Ints(vec![1, 1000]))];
    let old = apply_at(9, "Slice", &[&count(&[2, 3])], &old);
    assert_eq!(values(&old, &[1, 2]), [2.0, 3.0]);
    let given = [[0], [1], [0], [0]].map(|v| i64s(&v));
    let all = [&count(&[5]), &given[0], &given[1], &given[2], &given[3]];
    apply("Slice", &all, &[]).unwrap_err();
}

#[test]
fn gathered_indices_stand_in_place_of_their_axis() {
    let input = count(&[2, 3]);
    let index = Array::new(vec![1, 2], Data::I64(vec![-1, 0])).unwrap();
    let gathered = apply("Gather", &[&input, &index], &[("axis", Int(1))]);
    assert_eq!(values(&gathered, &[2, 1, 2]), [3.0, 1.0, 6.0, 4.0]);
    let single = Array::new(Vec::new(), Data::I64(vec![1])).unwrap();
    let row = apply("Gather", &[&input, &single], &[]);
    assert_eq!(values(&row, &[3]), [4.0, 5.0, 6.0]);
    for outside in [2, -3] {
        apply("Gather", &[&input, &i64s(&[outside])], &[]).unwrap_err();
    }
}

#[test]
fn values_are_repeated() {
    let expanded = apply("Expand", &[&count(&[2, 1]), &i64s(&[1, 2])], &[]);
    assert_eq!(values(&expanded, &[2, 2]), [1.0, 1.0, 2.0, 2.0]);
    let tiled = apply("Tile", &[&count(&[1, 2]), &i64s(&[2, 2])], &[]);
    let expected = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0];
    assert_eq!(values(&tiled, &[2, 4]), expected);
}

fn padded(mode: &str, pads: &[i64], value: Option<f32>) -> Result<Array, String> {
    let (input, pads) = (count(&[3]), i64s(pads));
    let value = value.map(Array::scalar);
    let given = vec![Some(&input), Some(&pads), value.as_ref()];
    apply_all(13, "Pad", given, 1, &[("mode", text(mode))]).map(|mut all| all.remove(0))
}

#[test]
fn margins_are_filled_by_mode() {
    let with = |mode, pads: &[i64], value| padded(mode, pads, value).unwrap().to_f64().unwrap();
    assert_eq!(
        with("constant", &[1, 2], Some(9.0)),
        [9.0, 1.0, 2.0, 3.0, 9.0, 9.0]
    );
    assert_eq!(with("constant", &[0, 1], None), [1.0, 2.0, 3.0, 0.0]);
    assert_eq!(with("constant", &[-1, 1], None), [2.0, 3.0, 0.0]);
    assert_eq!(with("edge", &[2, 1], None), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    assert_eq!(
        with("reflect", &[2, 2], None),
        [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    );
    assert_eq!(with("wrap", &[1, 1], None), [3.0, 1.0, 2.0, 3.0, 1.0]);
    padded("other", &[1, 1], None).unwrap_err();
    padded("constant", &[-2, -2], None).unwrap_err();
    padded("constant", &[1], None).unwrap_err();
    padded("edge", &[i64::MAX, i64::MAX], None).unwrap_err();
}

/// A quantised value is padded with its zero point, and keeps its type.
#[test]
fn margins_of_integers_are_integers() {
    let input = Array::new(vec![1], Data::U8(vec![7])).unwrap();
    let point = Array::new(Vec::new(), Data::U8(vec![128])).unwrap();
    let result = apply("Pad", &[&input, &i64s(&[1, 0]), &point], &[]).unwrap();
    assert_eq!(result.data(), &Data::U8(vec![128, 7]));
    let old = [
        ("pads", Ints(vec![0, 1])),
        ("value", super::super::example::Float(2.0)),
    ];
    let old = apply_at(10, "Pad", &[&count(&[1])], &old);
    assert_eq!(values(&old, &[2]), [1.0, 2.0]);
}

#[test]
fn values_come_from_nothing() {
    let filled = apply("ConstantOfShape", &[&i64s(&[2])], &[]).unwrap();
    assert_eq!(filled.element(), ElementType::F32);
    let ends = [5, 0, -2].map(|n| Array::new(Vec::new(), Data::I64(vec![n])).unwrap());
    let range = apply("Range", &[&ends[0], &ends[1], &ends[2]], &[]);
    assert_eq!(values(&range, &[3]), [5.0, 3.0, 1.0]);
    let zero = Array::new(Vec::new(), Data::I64(vec![0])).unwrap();
    apply("Range", &[&ends[1], &ends[0], &zero], &[]).unwrap_err();
}

#[test]
fn single_elements_are_picked() {
    let input = count(&[2, 2]);
    let index = Array::new(vec![2, 1], Data::I64(vec![-1, 0])).unwrap();
    let own = apply("GatherElements", &[&input, &index], &[("axis", Int(1))]);
    assert_eq!(values(&own, &[2, 1]), [2.0, 3.0]);
    let rows = apply("GatherND", &[&input, &index], &[]);
    assert_eq!(values(&rows, &[2, 2]), [3.0, 4.0, 1.0, 2.0]);
    let of_batch = apply("GatherND", &[&input, &index], &[("batch_dims", Int(1))]);
    assert_eq!(values(&of_batch, &[2]), [2.0, 3.0]);
    let outside = Array::new(vec![1, 1], Data::I64(vec![2])).unwrap();
    apply("GatherElements", &[&input, &outside], &[]).unwrap_err();
    apply("GatherND", &[&input, &outside], &[]).unwrap_err();
    let upper = apply("Trilu", &[&input], &[]);
    assert_eq!(values(&upper, &[2, 2]), [1.0, 2.0, 0.0, 4.0]);
    let lower = apply("Trilu", &[&input, &i64s(&[-1])], &[("upper", Int(0))]);
    assert_eq!(values(&lower, &[2, 2]), [0.0, 0.0, 3.0, 0.0]);
    let (depth, both) = (i64s(&[3]), f32s(&[2], &[0.0, 5.0]));
    let hot = apply(
        "OneHot",
        &[&i64s(&[1, -1, 7]), &depth, &both],
        &[("axis", Int(0))],
    );
    let expected = [0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 5.0, 0.0];
    assert_eq!(values(&hot, &[3, 3]), expected);
}

#[test]
fn nothing_is_made_that_is_too_large() {
    let one = count(&[1]);
    for shape in [&[1 << 40][..], &[1 << 20, 1 << 20], &[0, 1 << 62]] {
        apply("ConstantOfShape", &[&i64s(shape)], &[]).unwrap_err();
        apply("Expand", &[&one, &i64s(shape)], &[]).unwrap_err();
    }
    apply("Tile", &[&one, &i64s(&[i64::MAX])], &[]).unwrap_err();
    apply("Pad", &[&one, &i64s(&[1 << 60, 1 << 60])], &[]).unwrap_err();
}
