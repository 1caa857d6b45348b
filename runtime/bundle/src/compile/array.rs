//! Tensors as ONNX has them, with their elements in one vector of their own type.
//!
//! Wider than [`crate::Tensor`], which knows only what may cross into or out of a model. What
//! no pass computes with (half floats, 4-bit integers) is carried along as bytes.

use crate::tensor::{DType, Tensor};

/// A dense row-major tensor of any ONNX element type.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

/// The elements of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// `float`
    F32(Vec<f32>),
    /// `double`
    F64(Vec<f64>),
    /// `int8`
    I8(Vec<i8>),
    /// `uint8`
    U8(Vec<u8>),
    /// `int16`
    I16(Vec<i16>),
    /// `uint16`
    U16(Vec<u16>),
    /// `int32`
    I32(Vec<i32>),
    /// `uint32`
    U32(Vec<u32>),
    /// `int64`
    I64(Vec<i64>),
    /// `uint64`
    U64(Vec<u64>),
    /// `bool`
    Bool(Vec<bool>),
    /// Any other type, as the file packs it.
    Other {
        /// Its ONNX number.
        code: i32,
        /// The packed elements.
        bytes: Vec<u8>,
    },
}

/// An element type by its ONNX number (`TensorProto.DataType`).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ElementType(pub i32);

impl ElementType {
    /// `float`
    pub const F32: Self = Self(1);
    /// `uint8`
    pub const U8: Self = Self(2);
    /// `int8`
    pub const I8: Self = Self(3);
    /// `uint16`
    pub const U16: Self = Self(4);
    /// `int16`
    pub const I16: Self = Self(5);
    /// `int32`
    pub const I32: Self = Self(6);
    /// `int64`
    pub const I64: Self = Self(7);
    /// `bool`
    pub const BOOL: Self = Self(9);
    /// `double`
    pub const F64: Self = Self(11);
    /// `uint32`
    pub const U32: Self = Self(12);
    /// `uint64`
    pub const U64: Self = Self(13);

    /// The name people know it by.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 24] = [
            "undefined",
            "f32",
            "u8",
            "i8",
            "u16",
            "i16",
            "i32",
            "i64",
            "string",
            "bool",
            "f16",
            "f64",
            "u32",
            "u64",
            "complex64",
            "complex128",
            "bf16",
            "f8e4m3fn",
            "f8e4m3fnuz",
            "f8e5m2",
            "f8e5m2fnuz",
            "u4",
            "i4",
            "f4e2m1",
        ];
        let place = usize::try_from(self.0).ok();
        place
            .and_then(|n| NAMES.get(n))
            .copied()
            .unwrap_or("unknown")
    }

    /// Least and largest value of an integer type that quantised values may have.
    pub fn integer_range(self) -> Option<(i32, i32)> {
        match self {
            Self::U8 => Some((0, 255)),
            Self::I8 => Some((-128, 127)),
            Self::U16 => Some((0, 65_535)),
            Self::I16 => Some((-32_768, 32_767)),
            _ => None,
        }
    }
}

impl core::fmt::Debug for ElementType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::fmt::Display for ElementType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl Data {
    /// Number of elements, or of bytes of a type that is only carried along.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U8(v) | Self::Other { bytes: v, .. } => v.len(),
            Self::I16(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Array {
    /// Takes `data` of `shape`; nothing when their sizes differ.
    pub fn new(shape: Vec<usize>, data: Data) -> Option<Self> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let carried = matches!(data, Data::Other { .. });
        (carried || elements == data.len()).then_some(Self { shape, data })
    }

    /// A single `f32` without axes.
    pub fn scalar(value: f32) -> Self {
        Self {
            shape: Vec::new(),
            data: Data::F32(vec![value]),
        }
    }

    /// A row of `f32`.
    pub fn row(values: Vec<f32>) -> Self {
        Self {
            shape: vec![values.len()],
            data: Data::F32(values),
        }
    }

    /// A row of `i64`, which shapes, axes and pads are.
    pub fn indices(values: Vec<i64>) -> Self {
        Self {
            shape: vec![values.len()],
            data: Data::I64(values),
        }
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Gives up the elements.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// The same elements under another shape; nothing when their numbers differ.
    pub fn reshaped(self, shape: Vec<usize>) -> Option<Self> {
        Self::new(shape, self.data)
    }

    /// Type of the elements.
    pub fn element(&self) -> ElementType {
        match &self.data {
            Data::F32(_) => ElementType::F32,
            Data::F64(_) => ElementType::F64,
            Data::I8(_) => ElementType::I8,
            Data::U8(_) => ElementType::U8,
            Data::I16(_) => ElementType::I16,
            Data::U16(_) => ElementType::U16,
            Data::I32(_) => ElementType::I32,
            Data::U32(_) => ElementType::U32,
            Data::I64(_) => ElementType::I64,
            Data::U64(_) => ElementType::U64,
            Data::Bool(_) => ElementType::BOOL,
            Data::Other { code, .. } => ElementType(*code),
        }
    }

    /// The elements of an `f32` array.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements of an `i64` array.
    pub fn as_i64(&self) -> Option<&[i64]> {
        match &self.data {
            Data::I64(v) => Some(v),
            _ => None,
        }
    }

    /// Every element of an 8- to 32-bit integer array, widened; nothing of other types.
    pub fn to_i32(&self) -> Option<Vec<i32>> {
        Some(match &self.data {
            Data::I8(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::U8(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::I16(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::U16(v) => v.iter().map(|&x| i32::from(x)).collect(),
            Data::I32(v) => v.clone(),
            _ => return None,
        })
    }

    /// Every element of a numeric array as `f64`, exact but for 64-bit integers above 2^53;
    /// nothing of types that are only carried along.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        Some(match &self.data {
            Data::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::F64(v) => v.clone(),
            Data::I8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::U8(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::I16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::U16(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::U32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Data::I64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::U64(v) => v.iter().map(|&x| x as f64).collect(),
            Data::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
            Data::Other { .. } => return None,
        })
    }

    /// The only element of an `f32` array of one element, whatever its shape.
    pub fn as_single_f32(&self) -> Option<f32> {
        match self.as_f32() {
            Some([value]) => Some(*value),
            _ => None,
        }
    }

    /// Integers of `element` from their values; nothing when it is no type of up to 32 bits
    /// or a value lies outside of it.
    pub fn integers(element: ElementType, shape: Vec<usize>, values: &[i32]) -> Option<Self> {
        fn all<T: TryFrom<i32>>(values: &[i32]) -> Option<Vec<T>> {
            values.iter().map(|&v| T::try_from(v).ok()).collect()
        }
        let data = match element {
            ElementType::I8 => Data::I8(all(values)?),
            ElementType::U8 => Data::U8(all(values)?),
            ElementType::I16 => Data::I16(all(values)?),
            ElementType::U16 => Data::U16(all(values)?),
            ElementType::I32 => Data::I32(values.to_vec()),
            _ => return None,
        };
        Self::new(shape, data)
    }

    /// As a model takes or gives it; nothing of types that cannot cross that border.
    pub fn to_tensor(&self) -> Option<Tensor> {
        let shape = self.shape.clone();
        let (dtype, bytes) = match &self.data {
            Data::F32(v) => (DType::F32, le(v, |x| x.to_le_bytes())),
            Data::I8(v) => (DType::I8, le(v, |x| x.to_le_bytes())),
            Data::U8(v) => (DType::U8, v.clone()),
            Data::I32(v) => (DType::I32, le(v, |x| x.to_le_bytes())),
            Data::I64(v) => (DType::I64, le(v, |x| x.to_le_bytes())),
            _ => return None,
        };
        Tensor::from_bytes(dtype, shape, bytes).ok()
    }
}

fn le<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|&v| bytes(v)).collect()
}

impl From<&Tensor> for Array {
    fn from(tensor: &Tensor) -> Self {
        let bytes = tensor.bytes();
        let data = match tensor.dtype() {
            DType::F32 => Data::F32(of(bytes, f32::from_le_bytes)),
            DType::I8 => Data::I8(of(bytes, i8::from_le_bytes)),
            DType::U8 => Data::U8(bytes.to_vec()),
            DType::I32 => Data::I32(of(bytes, i32::from_le_bytes)),
            DType::I64 => Data::I64(of(bytes, i64::from_le_bytes)),
        };
        Self {
            shape: tensor.shape().to_vec(),
            data,
        }
    }
}

/// Little-endian values of `N` bytes each; a rest shorter than one value is dropped.
pub(super) fn of<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| value(*b)).collect()
}
