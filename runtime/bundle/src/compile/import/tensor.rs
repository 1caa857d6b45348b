//! From the tensors of a file to arrays.
//!
//! A file keeps elements as raw bytes or in one of several fields of wider numbers. What does
//! not fit its shape, lies in another file or is text is refused.

use crate::compile::array::{Array, Data, ElementType, of};
use crate::compile::error::CompileError;
use crate::compile::graph::MOST_AXES;
use crate::compile::proto::TensorProto;

/// Value of `TensorProto::data_location` for data in another file.
const EXTERNAL: i32 = 1;
const STRING: i32 = 8;

/// The elements of a tensor, wherever the file keeps them.
pub(super) fn array(tensor: TensorProto) -> Result<Array, CompileError> {
    let title = format!("the constant \"{}\"", tensor.name);
    if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
        return Err(CompileError::unsupported(
            title,
            "its data lie in another file",
            "save the model with all data in one file",
        ));
    }
    if tensor.data_type == STRING {
        return Err(CompileError::unsupported(
            title,
            "it holds text",
            "encode text as numbers before the model",
        ));
    }
    if tensor.dims.len() > MOST_AXES {
        return Err(CompileError::unsupported(
            title,
            format!("it has {} axes", tensor.dims.len()),
            "store it with 64 axes at most",
        ));
    }
    let shape: Option<Vec<usize>> = tensor
        .dims
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect();
    let invalid = || CompileError::Invalid(format!("{title} does not fit its shape"));
    let shape = shape.ok_or_else(invalid)?;
    let raw = tensor.raw_data;
    let is_raw = !raw.is_empty();
    // 32-bit fields carry the smaller integers, one each.
    let small = &tensor.int32_data;
    macro_rules! narrow {
        ($t:ty) => {
            match is_raw {
                true => of(&raw, <$t>::from_le_bytes),
                false => small
                    .iter()
                    .map(|&v| <$t>::try_from(v).map_err(|_| invalid()))
                    .collect::<Result<_, _>>()?,
            }
        };
    }
    let data = match ElementType(tensor.data_type) {
        ElementType::F32 if is_raw => Data::F32(of(&raw, f32::from_le_bytes)),
        ElementType::F32 => Data::F32(tensor.float_data),
        ElementType::F64 if is_raw => Data::F64(of(&raw, f64::from_le_bytes)),
        ElementType::F64 => Data::F64(tensor.double_data),
        ElementType::I8 => Data::I8(narrow!(i8)),
        ElementType::U8 => Data::U8(narrow!(u8)),
        ElementType::I16 => Data::I16(narrow!(i16)),
        ElementType::U16 => Data::U16(narrow!(u16)),
        ElementType::I32 => Data::I32(narrow!(i32)),
        ElementType::I64 if is_raw => Data::I64(of(&raw, i64::from_le_bytes)),
        ElementType::I64 => Data::I64(tensor.int64_data),
        ElementType::U32 if is_raw => Data::U32(of(&raw, u32::from_le_bytes)),
        ElementType::U32 => Data::U32(
            tensor
                .uint64_data
                .iter()
                .map(|&v| u32::try_from(v).map_err(|_| invalid()))
                .collect::<Result<_, _>>()?,
        ),
        ElementType::U64 if is_raw => Data::U64(of(&raw, u64::from_le_bytes)),
        ElementType::U64 => Data::U64(tensor.uint64_data),
        ElementType::BOOL if is_raw => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
        ElementType::BOOL => Data::Bool(small.iter().map(|&v| v != 0).collect()),
        ElementType(code) if bits(code).is_some() => {
            let bytes = match is_raw {
                true => raw,
                false => unwidened(code, small),
            };
            let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let bits = elements.and_then(|n| n.checked_mul(bits(code)?));
            if bits.map(|bits| bits.div_ceil(8)) != Some(bytes.len()) {
                return Err(invalid());
            }
            Data::Other { code, bytes }
        }
        ElementType(code) => {
            return Err(CompileError::unsupported(
                title,
                format!("its elements are {}", ElementType(code)),
                "store numbers of another type",
            ));
        }
    };
    Array::new(shape, data).ok_or_else(invalid)
}

/// The bytes of elements in 32-bit fields, which carry the bits of one of 16 or 8 bits, or of
/// two of 4 bits.
fn unwidened(code: i32, values: &[i32]) -> Vec<u8> {
    let length = match bits(code) {
        Some(16) => 2,
        _ => 1,
    };
    let bytes = values.iter().map(|v| v.to_le_bytes());
    bytes.flat_map(|b| b.into_iter().take(length)).collect()
}

/// Bits of one element of a type that is only carried along.
fn bits(code: i32) -> Option<usize> {
    Some(match code {
        10 | 16 => 16,
        14 => 64,
        15 => 128,
        17..=20 => 8,
        21..=23 => 4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
        TensorProto {
            name: "w".to_owned(),
            data_type,
            dims: dims.to_vec(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn elements_are_read_from_wider_fields() {
        let mut small = tensor(ElementType::I8.0, &[2]);
        small.int32_data = vec![-128, 127];
        assert_eq!(array(small).unwrap().data(), &Data::I8(vec![-128, 127]));
        let mut half = tensor(10, &[2]);
        half.int32_data = vec![0x3c00, 0xc000];
        let bytes = vec![0x00, 0x3c, 0x00, 0xc0];
        let carried = Data::Other { code: 10, bytes };
        assert_eq!(array(half).unwrap().data(), &carried);
        let mut packed = tensor(22, &[3]);
        packed.int32_data = vec![0x21, 0x03];
        let bytes = vec![0x21, 0x03];
        let carried = Data::Other { code: 22, bytes };
        assert_eq!(array(packed).unwrap().data(), &carried);
    }

    #[test]
    fn what_does_not_fit_its_shape_is_refused() {
        let mut outside = tensor(ElementType::U8.0, &[1]);
        outside.int32_data = vec![256];
        let mut fewer = tensor(ElementType::F32.0, &[3]);
        fewer.raw_data = vec![0; 8];
        let mut huge = tensor(10, &[1 << 40, 1 << 40]);
        huge.raw_data = vec![0; 2];
        for tensor in [outside, fewer, huge, tensor(ElementType::F32.0, &[-1])] {
            assert_eq!(
                array(tensor).unwrap_err().to_string(),
                "the model is not valid ONNX: the constant \"w\" does not fit its shape"
            );
        }
        assert_eq!(
            array(tensor(1, &[1; 65])).unwrap_err().to_string(),
            "the constant \"w\" cannot be compiled: it has 65 axes; store it with 64 axes at most"
        );
    }

    #[test]
    fn data_outside_of_the_file_is_refused() {
        let mut tensor = tensor(1, &[1]);
        tensor.data_location = EXTERNAL;
        assert_eq!(
            array(tensor).unwrap_err().to_string(),
            "the constant \"w\" cannot be compiled: its data lie in another file; save the model \
             with all data in one file"
        );
    }
}
