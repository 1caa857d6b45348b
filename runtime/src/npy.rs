//! NumPy's `.npy` files as tensors: golden inputs and reference outputs come in them.
//!
//! Only what a [`Tensor`] can hold is read; anything else is refused with the conversion
//! that helps. Files are read whole, up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use drover_bundle::{DType, Tensor};
use npyz::{Deserialize, NpyFile, NpyHeader, Order, TypeChar, WriteOptions, WriterBuilder};

use crate::error::BoxError;
use crate::guard::guarded;

/// Larger files are refused, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;
/// Longer headers are refused, in bytes. That of an array of numbers has about a hundred, that
/// of fifty named fields, which is refused with its description, some two thousand.
const MAX_HEADER_BYTES: usize = 4096;
/// Deepest nesting of brackets in a header, of which the first one opens its dictionary; fields
/// of arrays nest four deep. The library reads what stands in brackets twice for want of a
/// comma, and in braces four times, at each depth anew.
const MAX_DEPTH: u32 = 4;

/// Why a `.npy` file was not read or written. Each message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The file system refused.
    #[error("{}: file could not be {action}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Over [`MAX_BYTES`].
    #[error("{}: larger than {MAX_BYTES} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not a `.npy` file, or cut short.
    #[error("{}: not a whole .npy file", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BoxError,
    },
    /// An element type that tensors do not have.
    #[error(
        "{}: holds {found}; supported are float32, int8, uint8, int32 and int64, convert it \
         with `array.astype(...)`",
        .path.display()
    )]
    ElementType {
        /// The file.
        path: PathBuf,
        /// NumPy's description of the type.
        found: String,
    },
    /// Column-major.
    #[error(
        "{}: is in Fortran order; save `numpy.ascontiguousarray(array)`",
        .path.display()
    )]
    FortranOrder {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a `.npy` file.
///
/// # Errors
/// [`NpyError`], naming the file.
pub fn read(path: &Path) -> Result<Tensor, NpyError> {
    let io = |source| NpyError::Io {
        path: path.to_owned(),
        action: "read",
        source,
    };
    let file = File::open(path).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(NpyError::TooLarge {
            path: path.to_owned(),
        });
    }
    parse(path, &bytes)
}

/// Reads the bytes of the `.npy` file at `path`.
///
/// # Errors
/// [`NpyError`], naming the file.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Tensor, NpyError> {
    // The library multiplies the sizes of a header without a check.
    guarded(|| decode(path, bytes)).unwrap_or_else(|message| Err(malformed(path, message)))
}

/// Writes `tensor` as a `.npy` file, over what was there. A power cut leaves a part of the
/// file, which [`read`] refuses.
///
/// # Errors
/// [`NpyError::Io`].
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), NpyError> {
    encode(tensor)
        .and_then(|bytes| std::fs::write(path, bytes))
        .map_err(|source| NpyError::Io {
            path: path.to_owned(),
            action: "written",
            source,
        })
}

fn malformed(path: &Path, source: impl Into<BoxError>) -> NpyError {
    NpyError::Malformed {
        path: path.to_owned(),
        source: source.into(),
    }
}

/// Refuses headers for which the library takes memory or time before it refuses them itself.
fn inspect(bytes: &[u8]) -> Result<(), &'static str> {
    let (len, rest) = match bytes {
        [_, _, _, _, _, _, 1, _, a, b, rest @ ..] => (u16::from_le_bytes([*a, *b]).into(), rest),
        [_, _, _, _, _, _, 2 | 3, _, a, b, c, d, rest @ ..] => {
            (u32::from_le_bytes([*a, *b, *c, *d]), rest)
        }
        _ => return Ok(()),
    };
    let header = usize::try_from(len).ok().and_then(|len| rest.get(..len));
    let header = header.ok_or("the header is longer than the file")?;
    if header.len() > MAX_HEADER_BYTES {
        return Err("the header is longer than an array needs");
    }
    let (mut depth, mut quote) = (0u32, None);
    let mut bytes = header.iter();
    while let Some(&byte) = bytes.next() {
        match (quote, byte) {
            // What follows a backslash ends no string.
            (Some(_), b'\\') => _ = bytes.next(),
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'{') if depth > 0 => depth = u32::MAX,
            (None, b'(' | b'[' | b'{') => depth = depth.saturating_add(1),
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        if depth > MAX_DEPTH {
            return Err("the header nests deeper than that of an array");
        }
    }
    Ok(())
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Tensor, NpyError> {
    inspect(bytes).map_err(|why| malformed(path, why))?;
    let mut rest = bytes;
    let header = NpyHeader::from_reader(&mut rest).map_err(|e| malformed(path, e))?;
    if header.order() == Order::Fortran && header.shape().len() > 1 {
        return Err(NpyError::FortranOrder {
            path: path.to_owned(),
        });
    }
    let npyz::DType::Plain(element) = header.dtype() else {
        return Err(element_type(path, &header));
    };
    let dtype = match (element.type_char(), element.size_field()) {
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        _ => return Err(element_type(path, &header)),
    };
    let shape: Vec<usize> = header.shape().iter().map(|&d| d as usize).collect();
    let npy = NpyFile::with_header(header, rest);
    let values = match dtype {
        DType::F32 => little_endian(npy, f32::to_le_bytes),
        DType::I8 => little_endian(npy, i8::to_le_bytes),
        DType::U8 => little_endian(npy, u8::to_le_bytes),
        DType::I32 => little_endian(npy, i32::to_le_bytes),
        DType::I64 => little_endian(npy, i64::to_le_bytes),
    };
    let values = values.map_err(|e| malformed(path, e))?;
    Tensor::from_bytes(dtype, shape, values).map_err(|e| malformed(path, e))
}

fn element_type(path: &Path, header: &NpyHeader) -> NpyError {
    NpyError::ElementType {
        path: path.to_owned(),
        found: header.dtype().descr(),
    }
}

/// Reads until the data end, so that a header alone cannot ask for memory.
fn little_endian<T: Deserialize, const N: usize>(
    npy: NpyFile<&[u8]>,
    bytes: fn(T) -> [u8; N],
) -> io::Result<Vec<u8>> {
    let values = npy.data::<T>().map_err(io::Error::other)?;
    let mut out = Vec::new();
    for value in values {
        out.extend(bytes(value?));
    }
    Ok(out)
}

fn encode(tensor: &Tensor) -> io::Result<Vec<u8>> {
    let element = match tensor.dtype() {
        DType::F32 => "<f4",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I32 => "<i4",
        DType::I64 => "<i8",
    };
    let element = element.parse().map_err(io::Error::other)?;
    let shape: Vec<u64> = tensor.shape().iter().map(|&d| d as u64).collect();
    let mut out = Vec::new();
    // The header only: a tensor's bytes already are the data as the file has them.
    WriteOptions::new_header_only()
        .dtype(npyz::DType::Plain(element))
        .shape(&shape)
        .writer(&mut out)
        .write_header_only()?;
    out.extend_from_slice(tensor.bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.npy");
        for dtype in [DType::F32, DType::I8, DType::U8, DType::I32, DType::I64] {
            let bytes = (0..6 * dtype.size()).map(|b| b as u8).collect();
            let tensor = Tensor::from_bytes(dtype, vec![2, 3], bytes).unwrap();
            write(&path, &tensor).unwrap();
            assert_eq!(read(&path).unwrap(), tensor);
        }
    }

    #[test]
    fn a_header_longer_than_its_file_takes_no_memory() {
        let mut bytes = b"\x93NUMPY\x03\x00".to_vec();
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend([b' '; 64]);
        let message = decode(Path::new("x.npy"), &bytes).unwrap_err().to_string();
        assert!(message.contains("x.npy"), "{message}");
        let source = malformed(Path::new("x.npy"), "").to_string();
        assert_eq!(message, source, "the same kind of refusal");
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; data]);
        bytes
    }

    #[test]
    fn a_header_that_nests_takes_no_time() {
        // The library takes a second for ten braces, and four times as long for one more.
        for brackets in ["{", "{(", "[", "([{", "{'\\'}': ", "['}',", "[\"'}\","] {
            let nested = brackets.repeat(40);
            let error = decode(Path::new("x.npy"), &file(&nested, 0)).unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("nests deeper"), "{brackets}: {cause}");
        }
        let long = format!("{{'descr': '<f4', {}", " ".repeat(MAX_HEADER_BYTES));
        let error = decode(Path::new("x.npy"), &file(&long, 0)).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("longer than an array needs"), "{cause}");
    }

    #[test]
    fn what_a_tensor_cannot_hold_is_refused_by_name() {
        let path = Path::new("inputs.npy");
        let file = |header: &str, data: usize| guarded(|| decode(path, &file(header, data)));
        let doubles = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n";
        assert_eq!(
            file(doubles, 16).unwrap().unwrap_err().to_string(),
            "inputs.npy: holds '<f8'; supported are float32, int8, uint8, int32 and int64, \
             convert it with `array.astype(...)`"
        );
        let fields = "{'descr': [('a[', '<f4', (2,))], 'fortran_order': False, 'shape': (2,), }";
        assert!(matches!(
            file(fields, 16).unwrap(),
            Err(NpyError::ElementType { .. })
        ));
        let columns = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }\n";
        assert!(matches!(
            file(columns, 16).unwrap(),
            Err(NpyError::FortranOrder { .. })
        ));
        let short = "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n";
        assert!(matches!(
            file(short, 12).unwrap(),
            Err(NpyError::Malformed { .. })
        ));
        let huge =
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n";
        assert!(!matches!(file(huge, 12), Ok(Ok(_))));
        assert!(matches!(
            read(Path::new("no-such-file.npy")),
            Err(NpyError::Io { .. })
        ));
    }
}
