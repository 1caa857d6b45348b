//! Between a manifest and its bytes.
//!
//! Format 3 is what serde makes of [`Manifest`]. Format 2 ended before the numerics; a manifest
//! without them is written in it, so that agents which do not know format 3 read it. Format 1
//! ended after the tolerance and held the security epoch in 32 bits; it is read for as long as
//! bundles of it run anywhere, and never written. Nothing of refused bytes is returned.

use drover_trust::mutation::{Check, is_disabled};
use serde::de::DeserializeOwned;

use super::{
    Chunking, FileEntry, InputSpec, Lineage, MAX_BYTES, Manifest, ManifestError, OutputSpec,
    Requires, Tolerance, VERSION,
};

/// What an absent last field takes: the one byte by which format 3 is longer than format 2.
const ABSENT: u8 = 0;

/// The fields of format 1 in their order: name, version, counter, security epoch, time of the
/// build, description, and then by type.
type Format1 = (
    String,
    String,
    u64,
    u32,
    u64,
    String,
    Vec<FileEntry>,
    Chunking,
    Requires,
    InputSpec,
    OutputSpec,
    Tolerance,
);

impl Manifest {
    /// Bytes to sign and to hash, in the oldest format that is still written and holds all of it.
    ///
    /// # Errors
    /// [`ManifestError::Field`] or [`ManifestError::TooLarge`] when the manifest would be
    /// refused by [`Manifest::decode`].
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let version = if self.numerics.is_some() { VERSION } else { 2 };
        let mut bytes = postcard::to_extend(self, vec![version]).map_err(ManifestError::Parse)?;
        if self.numerics.is_none() {
            let last = bytes.pop();
            debug_assert_eq!(last, Some(ABSENT));
        }
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// Parses bytes whose signatures have been verified, in any format.
    ///
    /// # Errors
    /// Any [`ManifestError`]; nothing of a refused manifest is returned.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(ManifestError::Version(0))?;
        let manifest = match version {
            1 => of_format_1(whole(body)?),
            2 => of_format_2(body)?,
            VERSION => whole(body)?,
            // A delta would come as a format of its own; none is known yet.
            _ if is_disabled(Check::DeltaBase) => whole(body)?,
            _ => return Err(ManifestError::Version(version)),
        };
        manifest.check()?;
        Ok(manifest)
    }
}

fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, ManifestError> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(ManifestError::Parse)?;
    match rest.len() {
        0 => Ok(value),
        more => Err(ManifestError::Trailing(more)),
    }
}

fn of_format_2(body: &[u8]) -> Result<Manifest, ManifestError> {
    let manifest: Manifest = whole(&[body, &[ABSENT]].concat())?;
    // The byte that was added may also end a field that format 2 does not have.
    match manifest.numerics {
        None => Ok(manifest),
        Some(_) => Err(ManifestError::Trailing(1)),
    }
}

fn of_format_1(body: Format1) -> Manifest {
    let (name, version, counter, epoch, created_unix_s, description, files, ..) = body;
    let (.., chunking, requires, input, output, tolerance) = body;
    Manifest {
        name,
        version,
        counter,
        epoch: u64::from(epoch),
        created_unix_s,
        description,
        files,
        chunking,
        requires,
        input,
        output,
        tolerance,
        lineage: Lineage::default(),
        components: Vec::new(),
        numerics: None,
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::tests::{sample, validated};
    use super::*;
    use crate::manifest::Component;

    fn full() -> Manifest {
        Manifest {
            epoch: u64::from(u32::MAX) + 1,
            lineage: Lineage {
                training_run: "runs/417".into(),
                data_version: "2026-10".into(),
                commit: "5f3c2a".into(),
                approved_by: "Ada".into(),
                end_of_support_unix_s: Some(1_900_000_000),
            },
            components: vec![Component {
                name: "torch".into(),
                version: "2.9.0".into(),
                purl: "pkg:pypi/torch@2.9.0".into(),
            }],
            ..sample()
        }
    }

    fn compiled() -> Manifest {
        Manifest {
            numerics: Some(validated()),
            ..full()
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// What format 1 wrote of the sample.
    fn format_1() -> Vec<u8> {
        let mut bytes = sample().encode().unwrap();
        bytes[0] = 1;
        // Four empty texts, no end of support, no components.
        assert_eq!(bytes.split_off(bytes.len() - 6), [0; 6]);
        bytes
    }

    #[test]
    fn round_trip_and_trailing_bytes() {
        for (manifest, mut bytes) in [
            (compiled(), compiled().encode().unwrap()),
            (full(), full().encode().unwrap()),
            (sample(), sample().encode().unwrap()),
            (sample(), format_1()),
        ] {
            assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
            bytes.push(0);
            let refused = Manifest::decode(&bytes);
            assert!(matches!(refused, Err(ManifestError::Trailing(1))));
            bytes.pop();
            for len in 0..bytes.len() {
                assert!(Manifest::decode(&bytes[..len]).is_err(), "cut at {len}");
            }
            bytes[0] = 4;
            let refused = Manifest::decode(&bytes);
            assert!(matches!(refused, Err(ManifestError::Version(4))));
        }
    }

    /// Golden bytes of format 1: a change here strands every device in the field.
    #[test]
    fn format_1_bytes_never_change() {
        assert_eq!(
            hex(&Sha256::digest(format_1())),
            "99da31838135b43bf6e2b8267ccfdb07f654422e66f04d30e0dd257760e8cf3c"
        );
    }

    #[test]
    fn format_2_holds_no_numerics() {
        let mut bytes = compiled().encode().unwrap();
        bytes[0] = 2;
        for len in 1..=bytes.len() {
            let read = Manifest::decode(&bytes[..len]);
            assert!(read.is_err() || read.unwrap() == full(), "{len} bytes");
        }
    }

    #[test]
    fn only_what_was_compiled_needs_the_newest_format() {
        let formats = [compiled(), full()].map(|m| m.encode().unwrap()[0]);
        assert_eq!(formats, [3, 2]);
    }

    /// Golden bytes of format 3: its digests name bundles that run in the field.
    #[test]
    fn format_3_bytes_never_change() {
        let bytes = compiled().encode().unwrap();
        assert_eq!(
            hex(&Sha256::digest(&bytes)),
            "f88c86fd148a781c1b1ef42adebec33618ed7c55237b3c6060e1158e3b2ff63d"
        );
    }

    /// Golden bytes of format 2: its digests name bundles that run in the field.
    #[test]
    fn format_2_bytes_never_change() {
        let bytes = full().encode().unwrap();
        assert_eq!(
            hex(&Sha256::digest(&bytes)),
            "f0671c6dba3514a7e72017b8d0c1635faa1781108e8f9c00dee702a75922d797"
        );
    }
}
