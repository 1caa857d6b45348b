//! Draws a value of any serde type from fuzz bytes, so that structured targets need no second
//! definition of the types that they test.
//!
//! Small lists are favoured, because a change then stays near the byte that caused it; edge
//! values of integers are favoured, because that is where sums and lengths go wrong. When the
//! bytes are used up everything is zero or empty.

use std::fmt;

use arbitrary::Unstructured;
use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

/// Longest list that is drawn.
const MAX_LIST: usize = 6;
/// Deepest nesting; below it lists are empty.
const MAX_DEPTH: u32 = 12;

/// Why nothing was drawn: a type refused its parts.
#[derive(Debug)]
pub struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl From<arbitrary::Error> for Refused {
    fn from(_: arbitrary::Error) -> Self {
        Self
    }
}

/// A value of `T`; `None` when `T` refuses what was drawn for one of its parts.
pub fn draw<T: DeserializeOwned>(bytes: &mut Unstructured<'_>) -> Option<T> {
    T::deserialize(&mut Draw { bytes, depth: 0 }).ok()
}

struct Draw<'u, 'b> {
    bytes: &'u mut Unstructured<'b>,
    depth: u32,
}

impl Draw<'_, '_> {
    fn len(&mut self) -> Result<usize, Refused> {
        if self.depth > MAX_DEPTH {
            return Ok(0);
        }
        Ok(self.bytes.int_in_range(0..=MAX_LIST)?)
    }

    /// Half of all integers are edges: zero, one, the largest, or a power of two and its
    /// neighbours.
    fn integer(&mut self) -> Result<u64, Refused> {
        let kind: u8 = self.bytes.arbitrary()?;
        let edge = 1u64 << (self.bytes.arbitrary::<u8>()? % 64);
        Ok(match kind % 8 {
            // First, so that it is zero when the bytes are used up.
            0 => u64::from(kind / 8),
            1 => edge,
            2 => edge - 1,
            3 => u64::MAX,
            _ => self.bytes.arbitrary()?,
        })
    }

    fn text(&mut self) -> Result<String, Refused> {
        let kind: u8 = self.bytes.arbitrary()?;
        let alphabet: &[u8] = match kind % 4 {
            0 => return Ok(self.bytes.arbitrary::<&str>()?.to_owned()),
            1 => b"abcdefghijklmnopqrstuvwxyz234567",
            2 => b"abcxyz0189-._/",
            _ => b"a",
        };
        // Twenty-six characters are a device's identity.
        let len = match kind / 4 % 4 {
            0 => 26,
            1 => self.bytes.int_in_range(0..=300)?,
            _ => self.bytes.int_in_range(0..=12)?,
        };
        (0..len)
            .map(|_| Ok(char::from(*self.bytes.choose(alphabet)?)))
            .collect()
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            visitor.$visit(self.integer()? as $type)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Draw<'_, '_> {
    type Error = Refused;

    integers!(
        deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64
    );

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        // Types that describe themselves are text formats' business.
        Err(Refused)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_bool(self.bytes.arbitrary()?)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_i8(self.bytes.arbitrary()?)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_u8(self.bytes.arbitrary()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_f32(self.bytes.arbitrary()?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_f64(self.bytes.arbitrary()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_char(self.bytes.arbitrary()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_string(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_byte_buf(self.bytes.arbitrary()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_byte_buf(self.bytes.arbitrary()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        if self.bytes.arbitrary()? {
            visitor.visit_some(self)
        } else {
            visitor.visit_none()
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let left = self.len()?;
        visitor.visit_seq(Parts { draw: self, left })
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_seq(Parts { draw: self, left })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        left: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_seq(Parts { draw: self, left })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let left = self.len()?;
        visitor.visit_map(Parts { draw: self, left })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let left = fields.len();
        visitor.visit_seq(Parts { draw: self, left })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let index = self.bytes.choose_index(variants.len())?;
        let index = u32::try_from(index).map_err(|_| Refused)?;
        visitor.visit_enum(Variant { draw: self, index })
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        Err(Refused)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// So many values, one after the other.
struct Parts<'d, 'u, 'b> {
    draw: &'d mut Draw<'u, 'b>,
    left: usize,
}

impl Parts<'_, '_, '_> {
    fn part<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.draw.depth += 1;
        let value = seed.deserialize(&mut *self.draw);
        self.draw.depth -= 1;
        value
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_, '_, '_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.part(seed).map(Some)
    }
}

impl<'de> de::MapAccess<'de> for Parts<'_, '_, '_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        self.part(seed)
    }
}

struct Variant<'d, 'u, 'b> {
    draw: &'d mut Draw<'u, 'b>,
    index: u32,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, '_, '_> {
    type Error = Refused;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Refused> {
        let index: U32Deserializer<Refused> = self.index.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, '_, '_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        seed.deserialize(self.draw)
    }

    fn tuple_variant<V: Visitor<'de>>(self, left: usize, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_seq(Parts {
            draw: self.draw,
            left,
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.tuple_variant(fields.len(), visitor)
    }
}
