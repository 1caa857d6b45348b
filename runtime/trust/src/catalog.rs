//! The catalog: every release of the fleet, signed by an online key and short-lived.
//!
//! It is what TUF calls snapshot and timestamp in one. It names releases, it cannot make one:
//! a bundle runs only if the release role signed its manifest too. Its version only grows,
//! and a model that was listed once stays listed, so that an attacker who holds newer
//! catalogs back, or replays old ones, is noticed.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::envelope::{limit, parse_versioned};
use crate::mutation::{Check, is_disabled};
use crate::{AssignedBundle, Domain, Envelope, Role, TrustError, TrustedRoot};

/// Format version of catalogs.
pub const VERSION: u8 = 1;
/// Catalogs larger than this are refused before they are parsed, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

/// All releases of a fleet that devices may be told to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Name of the fleet.
    pub fleet: String,
    /// Strictly increasing.
    pub version: u64,
    /// When it was made, in seconds since 1970.
    pub issued_unix_s: u64,
    /// When it may no longer be used to accept instructions, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Releases; no two share a name and counter.
    pub releases: Vec<Listed>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Model name.
    pub name: String,
    /// Version for people.
    pub version: String,
    /// SHA-256 of the manifest.
    pub digest: [u8; 32],
    /// Counter of the release.
    pub counter: u64,
    /// Security epoch of the release.
    pub epoch: u64,
    /// Sum of the sizes of its files, in bytes.
    pub total_bytes: u64,
}

/// What a device remembers of the newest catalog that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogMark {
    /// Its version; 0 before the first.
    pub version: u64,
    /// SHA-256 of its payload: one version has one content.
    pub sha256: [u8; 32],
    /// When it was issued, in seconds since 1970.
    pub issued_unix_s: u64,
    /// Highest counter listed, by model name.
    pub newest: BTreeMap<String, u64>,
}

impl Catalog {
    /// Bytes to sign.
    ///
    /// # Errors
    /// [`TrustError::TooLarge`] when a device would refuse it, [`TrustError::Catalog`] when
    /// it contradicts itself.
    pub fn encode(&self) -> Result<Vec<u8>, TrustError> {
        self.check()?;
        let bytes = postcard::to_extend(self, alloc::vec![VERSION])
            .map_err(|_| TrustError::Parse("catalog"))?;
        limit("catalog", bytes.len(), MAX_BYTES)?;
        Ok(bytes)
    }

    /// Verifies and parses a catalog, and compares it with the newest one seen.
    ///
    /// `now_unix_s` is the device's trusted time. Nothing is to be remembered of a catalog
    /// that is refused; of one that is accepted, [`Self::mark`].
    ///
    /// # Errors
    /// Any signature or parsing error, [`TrustError::Fleet`], [`TrustError::Rollback`] for an
    /// older one, [`TrustError::Catalog`] when it forgets releases, [`TrustError::Stale`]
    /// past its end.
    pub fn open(
        envelope: &Envelope,
        root: &TrustedRoot,
        mark: &CatalogMark,
        now_unix_s: u64,
    ) -> Result<Self, TrustError> {
        let payload = root.verify(Role::Catalog, Domain::Catalog, envelope)?;
        limit("catalog", payload.len(), MAX_BYTES)?;
        let catalog: Self = parse_versioned("catalog", VERSION, payload)?;
        catalog.check()?;
        if catalog.fleet != root.root().fleet {
            return Err(TrustError::Fleet);
        }
        if !is_disabled(Check::CatalogRollback) {
            catalog.follows(mark, payload)?;
        }
        if catalog.expires_unix_s < now_unix_s && !is_disabled(Check::CatalogExpiry) {
            return Err(TrustError::Stale {
                what: "catalog",
                expired: catalog.expires_unix_s,
                now: now_unix_s,
            });
        }
        Ok(catalog)
    }

    fn follows(&self, mark: &CatalogMark, payload: &[u8]) -> Result<(), TrustError> {
        if self.version < mark.version {
            return Err(TrustError::Rollback {
                have: mark.version,
                got: self.version,
            });
        }
        if self.version == mark.version && digest(payload) != mark.sha256 {
            return Err(TrustError::Catalog("two catalogs have one version"));
        }
        let newest = self.newest();
        let forgotten = mark
            .newest
            .iter()
            .any(|(name, counter)| newest.get(name).is_none_or(|n| n < counter));
        if forgotten {
            return Err(TrustError::Catalog("a release that was listed is missing"));
        }
        Ok(())
    }

    /// What is to be remembered of this catalog, which came in `envelope`.
    pub fn mark(&self, envelope: &Envelope) -> CatalogMark {
        CatalogMark {
            version: self.version,
            sha256: digest(envelope.unverified_payload()),
            issued_unix_s: self.issued_unix_s,
            newest: self.newest(),
        }
    }

    /// Whether the catalog lists `bundle` exactly as it is assigned.
    ///
    /// # Errors
    /// [`TrustError::Unlisted`].
    pub fn lists(&self, bundle: &AssignedBundle) -> Result<(), TrustError> {
        let listed = self.releases.iter().any(|r| {
            r.digest == bundle.digest
                && r.name == bundle.name
                && r.counter == bundle.counter
                && r.epoch == bundle.epoch
                && r.total_bytes == bundle.total_bytes
        });
        if listed || is_disabled(Check::CatalogListing) {
            return Ok(());
        }
        Err(TrustError::Unlisted)
    }

    fn newest(&self) -> BTreeMap<String, u64> {
        let mut newest = BTreeMap::new();
        for release in &self.releases {
            let counter = newest.entry(release.name.clone()).or_insert(0);
            *counter = release.counter.max(*counter);
        }
        newest
    }

    fn check(&self) -> Result<(), TrustError> {
        for (i, release) in self.releases.iter().enumerate() {
            if release.name.is_empty() || release.name.len() > 64 || release.version.len() > 64 {
                return Err(TrustError::Catalog("names have 1 to 64 bytes"));
            }
            let same = |r: &&Listed| r.name == release.name && r.counter == release.counter;
            if self.releases.iter().take(i).any(|r| same(&r)) {
                return Err(TrustError::Catalog("a release is listed twice"));
            }
        }
        Ok(())
    }
}

fn digest(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

#[cfg(test)]
mod tests;
