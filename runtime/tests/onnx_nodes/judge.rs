//! When an output counts as the one that a test wants.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::{DatumType, Tensor};

/// What ONNX's own runner of these tests allows (`onnx/backend/test/runner`).
const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

/// Compares element type, shape and elements: integers exactly, floats as ONNX does.
pub(crate) fn similar(got: &Tensor, wanted: &Tensor) -> Result<(), String> {
    // Sizes that tract knows by name stand where ONNX has 64-bit integers, and quantised
    // types of its own where ONNX has plain ones.
    let kind = match got.datum_type().unquantized() {
        DatumType::TDim => DatumType::I64,
        kind => kind,
    };
    if kind != wanted.datum_type() || got.shape() != wanted.shape() {
        return Err(format!("gave {got:?}, not {wanted:?}"));
    }
    if kind == DatumType::String {
        return match got == wanted {
            true => Ok(()),
            false => Err(format!("gave {got:?}, not {wanted:?}")),
        };
    }
    close(&elements(got)?, &elements(wanted)?, kind.is_float())
}

/// Compares a tensor of ONNX's element type `kind` with one that is wanted.
pub(crate) fn same(kind: i32, shape: &[usize], got: &[f64], wanted: &Tensor) -> Result<(), String> {
    let datum: Option<DatumType> = DataType::try_from(kind)
        .ok()
        .and_then(|k| k.try_into().ok());
    if datum != Some(wanted.datum_type()) || shape != wanted.shape() {
        return Err(format!("gave type {kind} of {shape:?}, not {wanted:?}"));
    }
    close(got, &elements(wanted)?, wanted.datum_type().is_float())
}

/// Compares elements one by one: integers exactly, floats as ONNX does.
pub(crate) fn close(got: &[f64], wanted: &[f64], is_float: bool) -> Result<(), String> {
    let close = |g: f64, w: f64| {
        g == w
            || (g.is_nan() && w.is_nan())
            || (is_float && (g - w).abs() <= ABSOLUTE + RELATIVE * w.abs())
    };
    let mut pairs = got.iter().zip(wanted);
    match pairs.position(|(&g, &w)| !close(g, w)) {
        None => Ok(()),
        Some(place) => {
            let (got, wanted) = (got[place], wanted[place]);
            Err(format!("element {place} is {got}, not {wanted}"))
        }
    }
}

fn elements(tensor: &Tensor) -> Result<Vec<f64>, String> {
    let wide = tensor.cast_to::<f64>().map_err(|e| e.to_string())?;
    let view = wide.to_plain_array_view::<f64>();
    Ok(view.map_err(|e| e.to_string())?.iter().copied().collect())
}
