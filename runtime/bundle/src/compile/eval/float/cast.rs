//! From one element type to another, as `as` does it: cut towards zero, integers wrap.

use super::super::{Call, Outcome};
use crate::compile::array::{Array, Data, ElementType};
use crate::compile::eval::layout::argument::array;

pub(super) fn converted(from: &Array, element: ElementType) -> Result<Array, String> {
    if from.element() == element {
        return Ok(from.clone());
    }
    let refused = || format!("{} is not cast to {element} here", from.element());
    macro_rules! to {
        ($kind:ident, $t:ty) => {
            Data::$kind(match from.data() {
                Data::F32(v) => v.iter().map(|&x| x as $t).collect(),
                Data::F64(v) => v.iter().map(|&x| x as $t).collect(),
                Data::I8(v) => v.iter().map(|&x| x as $t).collect(),
                Data::U8(v) => v.iter().map(|&x| x as $t).collect(),
                Data::I16(v) => v.iter().map(|&x| x as $t).collect(),
                Data::U16(v) => v.iter().map(|&x| x as $t).collect(),
                Data::I32(v) => v.iter().map(|&x| x as $t).collect(),
                Data::U32(v) => v.iter().map(|&x| x as $t).collect(),
                Data::I64(v) => v.iter().map(|&x| x as $t).collect(),
                Data::U64(v) => v.iter().map(|&x| x as $t).collect(),
                Data::Bool(v) => v.iter().map(|&x| u8::from(x) as $t).collect(),
                Data::Other { .. } => return Err(refused()),
            })
        };
    }
    let data = match element {
        ElementType::F32 => to!(F32, f32),
        ElementType::F64 => to!(F64, f64),
        ElementType::I8 => to!(I8, i8),
        ElementType::U8 => to!(U8, u8),
        ElementType::I16 => to!(I16, i16),
        ElementType::U16 => to!(U16, u16),
        ElementType::I32 => to!(I32, i32),
        ElementType::U32 => to!(U32, u32),
        ElementType::I64 => to!(I64, i64),
        ElementType::U64 => to!(U64, u64),
        ElementType::BOOL => {
            let values = from.to_f64().ok_or_else(refused)?;
            Data::Bool(values.iter().map(|&x| x != 0.0).collect())
        }
        _ => return Err(refused()),
    };
    array(from.shape().to_vec(), data)
}

pub(super) fn cast(call: &Call<'_>) -> Outcome {
    let to = call.node.int("to").and_then(|to| i32::try_from(to).ok());
    let to = ElementType(to.ok_or("it does not say to which type")?);
    converted(call.input(0)?, to).map(|a| vec![a])
}

pub(super) fn cast_like(call: &Call<'_>) -> Outcome {
    converted(call.input(0)?, call.input(1)?.element()).map(|a| vec![a])
}
