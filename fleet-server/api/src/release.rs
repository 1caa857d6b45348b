//! Releases: bundles published in the fleet's catalogue.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Names a release in lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseRef {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// Counter of the release.
    pub counter: u64,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseFile {
    /// Name of the file.
    pub name: String,
    /// `model`, `golden`, `baseline` or `asset`.
    pub role: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Where a model comes from; an empty text means that nobody has said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lineage {
    /// Names the run that trained the model.
    pub training_run: String,
    /// Version of the data that it was trained on.
    pub data_version: String,
    /// Commit of the code that trained it.
    pub commit: String,
    /// Who has approved it for devices.
    pub approved_by: String,
    /// Until when it is maintained, in seconds since 1970.
    pub end_of_support_unix_s: Option<u64>,
}

/// Something that a model was made of or with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Package URL; may be empty.
    pub purl: String,
}

/// A published bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Release {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// Counter of the release; strictly increasing per name.
    pub counter: u64,
    /// Security epoch of the release.
    #[serde(default)]
    pub epoch: u64,
    /// One line for people.
    pub description: String,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
    /// Chunks in which it travels.
    pub chunks: u32,
    /// Architectures that it runs on; empty means any.
    pub arch: Vec<String>,
    /// Every file.
    pub files: Vec<ReleaseFile>,
    /// Where the model comes from.
    #[serde(default)]
    pub lineage: Lineage,
    /// What the model was made of and with, as far as its manifest names it.
    #[serde(default)]
    pub components: Vec<Component>,
    /// When it was built, in seconds since 1970.
    pub created_unix_s: u64,
    /// When it was published, in seconds since 1970.
    pub published_unix_s: u64,
    /// Bytes of its chunks that have been sent so far, repeats included.
    pub sent_bytes: u64,
    /// Whether it travels encrypted, to devices alone.
    #[serde(default)]
    pub confidential: bool,
}
