//! Tensors as they cross crate borders: dtype, shape and little-endian bytes.
//!
//! Engines convert to and from their own types; nothing of an engine's library shows here.

use serde::{Deserialize, Serialize};

/// Element type of a [`Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 32-bit integer.
    I32,
    /// Signed 64-bit integer.
    I64,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

impl core::fmt::Display for DType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::I64 => "i64",
        })
    }
}

/// Why bytes are not a tensor of the given dtype and shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The byte length does not match the shape.
    #[error("{got} bytes do not hold a {dtype} tensor of shape {shape:?}")]
    Length {
        /// Element type asked for.
        dtype: DType,
        /// Shape asked for.
        shape: Vec<usize>,
        /// Bytes there were.
        got: usize,
    },
    /// The tensor has another element type than the caller reads.
    #[error("tensor holds {got}, not {wanted}")]
    DType {
        /// Element type wanted.
        wanted: DType,
        /// Element type there is.
        got: DType,
    },
}

/// A dense row-major tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Takes little-endian `bytes` of `shape`.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the bytes are not exactly as many as the shape needs.
    pub fn from_bytes(
        dtype: DType,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    ) -> Result<Self, TensorError> {
        let wanted = shape
            .iter()
            .try_fold(dtype.size(), |n, &d| n.checked_mul(d));
        if wanted != Some(bytes.len()) {
            return Err(TensorError::Length {
                dtype,
                got: bytes.len(),
                shape,
            });
        }
        Ok(Self {
            dtype,
            shape,
            bytes,
        })
    }

    /// Builds an `f32` tensor.
    ///
    /// # Errors
    /// [`TensorError::Length`] when `values` are not exactly as many as the shape needs.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_bytes(DType::F32, shape, bytes)
    }

    /// Whether the bytes fit the shape; tensors that come from decoded bytes must be asked.
    pub fn is_consistent(&self) -> bool {
        self.shape
            .iter()
            .try_fold(self.dtype.size(), |n, &d| n.checked_mul(d))
            == Some(self.bytes.len())
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Little-endian bytes, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same bytes, to fill a tensor anew without allocating another.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`TensorError::Length`] when the shapes hold different numbers of elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        Self::from_bytes(self.dtype, shape, self.bytes)
    }

    /// Every element as `f32`, whatever the dtype; integers above 2^24 lose precision.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => self
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            DType::I8 => self
                .bytes
                .iter()
                .map(|&b| f32::from(b.cast_signed()))
                .collect(),
            DType::U8 => self.bytes.iter().map(|&b| f32::from(b)).collect(),
            DType::I32 => self
                .bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| i32::from_le_bytes(*b) as f32)
                .collect(),
            DType::I64 => self
                .bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b) as f32)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fit_the_shape() {
        assert!(Tensor::from_bytes(DType::F32, vec![2, 2], vec![0; 16]).is_ok());
        let err = Tensor::from_bytes(DType::F32, vec![2, 2], vec![0; 15]).unwrap_err();
        assert_eq!(
            err.to_string(),
            "15 bytes do not hold a f32 tensor of shape [2, 2]"
        );
        assert!(Tensor::from_bytes(DType::I8, vec![usize::MAX, 2], vec![0; 2]).is_err());
    }

    #[test]
    fn every_dtype_reads_as_f32() {
        let f = Tensor::from_f32(vec![2], &[1.5, -2.0]).unwrap();
        assert_eq!(f.to_f32(), [1.5, -2.0]);
        let i = Tensor::from_bytes(DType::I8, vec![2], vec![0xff, 0x7f]).unwrap();
        assert_eq!(i.to_f32(), [-1.0, 127.0]);
        let w = Tensor::from_bytes(DType::I64, vec![1], (-3i64).to_le_bytes().to_vec()).unwrap();
        assert_eq!(w.to_f32(), [-3.0]);
    }
}
