//! Between real values and the integers of quantised tensors.
//!
//! Rounding is to nearest, ties to even, and saturates, as ONNX's QuantizeLinear does it.

use drover_bundle::{DType, Quantisation, Tensor};

/// Writes `values` into a tensor of as many elements.
pub(super) fn fill(tensor: &mut Tensor, values: &[f32], quantisation: Option<Quantisation>) {
    let (scale, zero_point) = match quantisation {
        Some(q) => (q.scale, f64::from(q.zero_point)),
        None => (1.0, 0.0),
    };
    let integer = |value: f32| f64::from((value / scale).round_ties_even()) + zero_point;
    let dtype = tensor.dtype();
    let bytes = tensor.bytes_mut();
    match dtype {
        DType::F32 => write(bytes, values, |v| v.to_le_bytes()),
        // Casts from float saturate.
        DType::I8 => write(bytes, values, |v| (integer(v) as i8).to_le_bytes()),
        DType::U8 => write(bytes, values, |v| [integer(v) as u8]),
        DType::I32 => write(bytes, values, |v| (integer(v) as i32).to_le_bytes()),
        DType::I64 => write(bytes, values, |v| (integer(v) as i64).to_le_bytes()),
    }
}

fn write<const N: usize>(bytes: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; N]) {
    let (elements, _) = bytes.as_chunks_mut::<N>();
    for (element, &value) in elements.iter_mut().zip(values) {
        *element = encode(value);
    }
}

/// Replaces `out` by the real values of a tensor.
pub(super) fn read(tensor: &Tensor, quantisation: Option<Quantisation>, out: &mut Vec<f32>) {
    out.clear();
    let bytes = tensor.bytes();
    match tensor.dtype() {
        DType::F32 => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        DType::I8 => out.extend(bytes.iter().map(|&b| f32::from(b.cast_signed()))),
        DType::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
        DType::I32 | DType::I64 => out.extend(tensor.to_f32()),
    }
    if let Some(q) = quantisation {
        let zero = q.zero_point as f32;
        out.iter_mut().for_each(|v| *v = q.scale * (*v - zero));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_to_even_and_saturate() {
        let q = Some(Quantisation {
            scale: 0.5,
            zero_point: 3,
        });
        // x / 0.5: 2.5, 3.5, -0.5, 400, -400.
        let values = [1.25, 1.75, -0.25, 200.0, -200.0];
        let mut tensor = Tensor::from_bytes(DType::I8, vec![5], vec![0; 5]).unwrap();
        fill(&mut tensor, &values, q);
        assert_eq!(tensor.to_f32(), [5.0, 7.0, 3.0, 127.0, -128.0]);
        let mut real = Vec::new();
        read(&tensor, q, &mut real);
        assert_eq!(real, [1.0, 2.0, 0.0, 62.0, -65.5]);

        let mut tensor = Tensor::from_bytes(DType::U8, vec![5], vec![0; 5]).unwrap();
        fill(&mut tensor, &values, q);
        assert_eq!(tensor.to_f32(), [5.0, 7.0, 3.0, 255.0, 0.0]);
    }

    #[test]
    fn floats_pass_unchanged() {
        let mut tensor = Tensor::from_f32(vec![2], &[0.0, 0.0]).unwrap();
        fill(&mut tensor, &[1.5, -2.25], None);
        let mut real = vec![9.0];
        read(&tensor, None, &mut real);
        assert_eq!(real, [1.5, -2.25]);
    }
}
