//! What devices trust, and what they are told to trust: roots, the catalog, moves to other
//! fleets.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a device reported last of what it trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceTrust {
    /// When it reported, in milliseconds since 1970.
    pub received_unix_ms: u64,
    /// Version of the newest root that it has verified.
    pub root_version: u64,
    /// Version of the newest catalog that it has accepted; 0 for none.
    pub catalog_version: u64,
    /// When that catalog was issued, in seconds since 1970.
    pub catalog_unix_s: u64,
    /// Its trusted time, in seconds since 1970.
    pub time_floor_s: u64,
    /// What lies on its disk ready to run, the active bundle first.
    pub installed: Vec<InstalledBundle>,
    /// The attack indicator: what it has refused since it was enrolled, by reason.
    pub refused: Vec<RefusedCount>,
}

/// A bundle on a device's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstalledBundle {
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// Counter of the release.
    pub counter: u64,
    /// Security epoch of the release.
    pub epoch: u64,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
}

/// How often a device has refused something for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedCount {
    /// Name of the reason, such as `SIG_INVALID`.
    pub code: String,
    /// How often.
    pub count: u32,
}

/// The catalog that devices get with their assignments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Catalog {
    /// Strictly increasing.
    pub version: u64,
    /// When it was made, in seconds since 1970.
    pub issued_unix_s: u64,
    /// When devices no longer accept instructions by it, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Identity of the key that signed it.
    pub key: String,
    /// What it lists.
    pub releases: Vec<CatalogEntry>,
}

/// One release in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogEntry {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// Digest of the bundle, hexadecimal.
    pub digest: String,
    /// Counter of the release.
    pub counter: u64,
    /// Security epoch of the release.
    pub epoch: u64,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
}

/// One version of the fleet's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RootVersion {
    /// 1, then one more each time.
    pub version: u64,
    /// SHA-256 of its signed payload, hexadecimal: what images are pinned to.
    pub pin: String,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// When a newer one must have followed, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Least security epoch of bundles that devices newly accept.
    pub epoch: u64,
    /// Devices that have reported this version as their newest.
    pub devices: u64,
}
