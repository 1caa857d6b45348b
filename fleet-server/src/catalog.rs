//! The fleet's catalog: made, signed, renewed and brought to devices.
//!
//! Versions only grow, even across a database that was restored from a backup, because each is
//! at least the second in which it was made. A catalog is stored before any device sees it.
//! Devices that have nothing to do get fresh ones as well, so that one which hears nothing can
//! be told from one which is kept from hearing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use drover_api::{CatalogEntry, Severity};
use drover_trust::{Catalog, CatalogMark, DeviceId, Domain, Envelope, Listed, Role, catalog};
use tokio::sync::Mutex;

use crate::state::Core;
use crate::store::{CatalogRow, NewEvent, ReleaseRow};
use crate::{ServerError, clock, random};

/// Bytes of a catalog kept free for its head and its signature.
const HEAD_BYTES: usize = 256;
/// Bytes that a release needs beside its names.
const ENTRY_BYTES: usize = 32 + 4 * 10 + 4;
/// Devices heard within this time get fresh catalogs, in milliseconds.
const HEARD_WITHIN_MS: u64 = 3_600_000;

/// The newest catalog, one maker at a time.
#[derive(Default)]
pub(crate) struct Catalogs {
    newest: Mutex<Option<Issued>>,
}

/// A signed catalog and what it lists.
#[derive(Clone)]
struct Issued {
    row: CatalogRow,
    releases: Vec<Listed>,
}

impl Core {
    /// The newest catalog; a new one when the last is half over, does not list all of `wanted`,
    /// or was signed by a key that the newest root does not name.
    pub(crate) async fn catalog(&self, wanted: &[[u8; 32]]) -> Result<CatalogRow, ServerError> {
        Ok(self.issued(wanted, false).await?.row)
    }

    /// Makes a new catalog: a release was published or the root changed.
    pub(crate) async fn renew_catalog(&self) -> Result<(), ServerError> {
        self.issued(&[], true).await.map(drop)
    }

    /// The newest catalog as operators see it.
    pub(crate) async fn show_catalog(&self) -> Result<drover_api::Catalog, ServerError> {
        let issued = self.issued(&[], false).await?;
        let signed = Envelope::decode(&issued.row.envelope);
        let key = signed
            .ok()
            .and_then(|e| e.signatures().first().map(|s| s.key));
        let hex = |digest: &[u8; 32]| data_encoding::HEXLOWER.encode(digest);
        let entry = |r: &Listed| CatalogEntry {
            name: r.name.clone(),
            version: r.version.clone(),
            digest: hex(&r.digest),
            counter: r.counter,
            epoch: r.epoch,
            total_bytes: r.total_bytes,
        };
        Ok(drover_api::Catalog {
            version: issued.row.version,
            issued_unix_s: issued.row.issued_unix_s,
            expires_unix_s: issued.row.expires_unix_s,
            key: key.map_or(String::new(), |id| id.to_string()),
            releases: issued.releases.iter().map(entry).collect(),
        })
    }

    async fn issued(&self, wanted: &[[u8; 32]], anew: bool) -> Result<Issued, ServerError> {
        let mut newest = self.catalogs.newest.lock().await;
        let last = match newest.take() {
            Some(issued) => Some(issued),
            None => self.store.catalog().await?.map(|row| self.parse(row)),
        };
        let good = last
            .as_ref()
            .is_some_and(|last| !anew && self.serves(last, wanted));
        let issued = match last {
            Some(last) if good => last,
            last => match self.issue(last.as_ref(), wanted).await {
                Ok(issued) => issued,
                Err(error) => {
                    *newest = last;
                    return Err(error);
                }
            },
        };
        *newest = Some(issued.clone());
        Ok(issued)
    }

    /// Whether a catalog still does.
    fn serves(&self, last: &Issued, wanted: &[[u8; 32]]) -> bool {
        let now = clock::unix_s();
        let half = self.config.catalog_ttl_secs / 2;
        let young =
            (last.row.issued_unix_s..=last.row.issued_unix_s.saturating_add(half)).contains(&now);
        let lists = |digest: &[u8; 32]| last.releases.iter().any(|r| r.digest == *digest);
        let signed = Envelope::decode(&last.row.envelope).is_ok_and(|envelope| {
            let root = self.identity.root();
            root.verify(Role::Catalog, Domain::Catalog, &envelope)
                .is_ok()
        });
        young && signed && wanted.iter().all(lists)
    }

    async fn issue(
        &self,
        last: Option<&Issued>,
        wanted: &[[u8; 32]],
    ) -> Result<Issued, ServerError> {
        let issued_unix_s = clock::unix_s();
        let after = last.map_or(0, |l| l.row.version).saturating_add(1);
        let mut first: BTreeSet<[u8; 32]> = wanted.iter().copied().collect();
        first.extend(self.store.digests_in_use().await?);
        let listed_before = last.map_or(&[][..], |l| &l.releases);
        let (releases, left) = select(&self.store.releases().await?, &first, listed_before);
        if left > 0 {
            let detail = format!(
                "{left} releases do not fit into the catalog; devices cannot be assigned them"
            );
            let event = NewEvent {
                device: None,
                severity: Severity::Warning,
                kind: "catalog-full",
                detail,
            };
            self.store.add_event(&event).await?;
        }
        let catalog = Catalog {
            fleet: self.identity.fleet().to_owned(),
            version: after.max(issued_unix_s),
            issued_unix_s,
            expires_unix_s: issued_unix_s.saturating_add(self.config.catalog_ttl_secs),
            releases,
        };
        let row = CatalogRow {
            version: catalog.version,
            issued_unix_s,
            expires_unix_s: catalog.expires_unix_s,
            envelope: self.identity.catalog(&catalog)?,
        };
        self.store.set_catalog(&row).await?;
        tracing::info!(
            version = row.version,
            releases = catalog.releases.len(),
            "catalog issued"
        );
        let releases = catalog.releases;
        Ok(Issued { row, releases })
    }

    /// A stored catalog; of one that today's root does not vouch for only the version counts.
    fn parse(&self, row: CatalogRow) -> Issued {
        let root = self.identity.root();
        let releases = Envelope::decode(&row.envelope)
            .and_then(|e| Catalog::open(&e, &root, &CatalogMark::default(), 0))
            .map(|catalog| catalog.releases)
            .unwrap_or_default();
        Issued { row, releases }
    }
}

/// What to list, and how many releases in use found no room: first the newest of each model,
/// then what is in use, then what was listed before, as long as there is room.
fn select(
    releases: &[ReleaseRow],
    in_use: &BTreeSet<[u8; 32]>,
    before: &[Listed],
) -> (Vec<Listed>, usize) {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    for release in releases {
        let counter = newest.entry(&release.summary.name).or_insert(0);
        *counter = release.summary.counter.max(*counter);
    }
    let rank = |r: &ReleaseRow| {
        if newest.get(r.summary.name.as_str()) == Some(&r.summary.counter) {
            Some(0)
        } else if in_use.contains(&r.digest) {
            Some(1)
        } else {
            before.iter().any(|l| l.digest == r.digest).then_some(2)
        }
    };
    let mut ranked: Vec<(u8, &ReleaseRow)> = releases
        .iter()
        .filter_map(|r| Some((rank(r)?, r)))
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut room = catalog::MAX_BYTES - HEAD_BYTES;
    let mut left = 0;
    let mut listed = Vec::new();
    for (rank, release) in ranked {
        let summary = &release.summary;
        let needed = ENTRY_BYTES + summary.name.len() + summary.version.len();
        if needed > room {
            left += usize::from(rank < 2);
            continue;
        }
        room -= needed;
        listed.push(Listed {
            name: summary.name.clone(),
            version: summary.version.clone(),
            digest: release.digest,
            counter: summary.counter,
            epoch: summary.epoch,
            total_bytes: summary.total_bytes,
        });
    }
    (listed, left)
}

/// Keeps the catalog and the devices' view of it fresh, for ever.
pub(crate) async fn run(core: Arc<Core>) {
    let pause = Duration::from_secs((core.config.catalog_ttl_secs / 20).clamp(1, 60));
    loop {
        if let Err(error) = look(&core).await {
            tracing::error!(%error, cause = ?std::error::Error::source(&error),
                "the catalog could not be kept fresh");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn look(core: &Core) -> Result<(), ServerError> {
    let catalog = core.catalog(&[]).await?;
    let now = clock::unix_s();
    let limit = core
        .config
        .stale_after_secs
        .unwrap_or(core.config.catalog_ttl_secs);
    let (stale, fresh) = core
        .store
        .mark_stale(now.saturating_sub(limit), now)
        .await?;
    for device in stale {
        let detail = format!(
            "no newer catalog has reached the device for {limit} s: it is out of reach, or \
             somebody keeps instructions from it"
        );
        let event = NewEvent::of(&device, Severity::Security, "catalog-stale", detail);
        core.store.add_event(&event).await?;
    }
    for device in fresh {
        let detail = "the device has a fresh catalog again".to_owned();
        let event = NewEvent::of(&device, Severity::Info, "catalog-fresh", detail);
        core.store.add_event(&event).await?;
    }
    // A device that takes none of them is not to be flooded.
    let pause = Duration::from_secs((core.config.catalog_ttl_secs / 100).max(1));
    let heard = clock::unix_ms().saturating_sub(HEARD_WITHIN_MS);
    let half = core.config.catalog_ttl_secs / 2;
    let before = now.saturating_sub(half).min(catalog.issued_unix_s);
    for device in core.store.behind_catalog(heard, before).await? {
        let Ok(device) = DeviceId::parse(&device) else {
            continue;
        };
        // About 200 devices a second: each answers with messages of its own.
        tokio::time::sleep(Duration::from_millis(random::below(10))).await;
        core.refresh(&device, pause).await?;
    }
    Ok(())
}

impl Core {
    /// Sends a device its assignment with the newest catalog, unless that was done within
    /// `pause`.
    pub(crate) async fn refresh(
        &self,
        device: &DeviceId,
        pause: Duration,
    ) -> Result<(), ServerError> {
        let known = {
            let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            sent.get(device.as_str()).copied()
        };
        if known.is_some_and(|at| at.elapsed() < pause) {
            return Ok(());
        }
        match self.store.assignment(device.as_str()).await? {
            Some(assigned) => self.send_assignment(device, assigned).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_api::Release;

    fn release(name: &str, counter: u64) -> ReleaseRow {
        let mut digest = [0; 32];
        digest[0] = name.as_bytes()[0];
        digest[1..9].copy_from_slice(&counter.to_le_bytes());
        ReleaseRow {
            digest,
            envelope: Vec::new(),
            summary: Release {
                name: name.into(),
                version: format!("{counter:064}"),
                digest: String::new(),
                counter,
                epoch: 0,
                description: String::new(),
                total_bytes: 1,
                chunks: 1,
                arch: Vec::new(),
                files: Vec::new(),
                lineage: Default::default(),
                components: vec![],
                created_unix_s: 0,
                published_unix_s: 0,
                sent_bytes: 0,
                confidential: false,
            },
            payload_offset: 0,
            chunk_bytes: 1,
        }
    }

    #[test]
    fn the_newest_and_what_is_in_use_are_listed_before_all_else() {
        let all: Vec<ReleaseRow> = (1..=5).map(|n| release("a", n)).collect();
        let in_use = BTreeSet::from([all[1].digest]);
        let (listed, left) = select(&all, &in_use, &[]);
        let counters: Vec<u64> = listed.iter().map(|l| l.counter).collect();
        assert_eq!((counters, left), (vec![5, 2], 0));
        // What was listed once stays.
        let (again, _) = select(&all, &BTreeSet::new(), &listed);
        assert_eq!(again.len(), 2);
    }

    #[test]
    fn a_catalog_never_outgrows_what_devices_accept() {
        let mut all: Vec<ReleaseRow> = (1..=2000).map(|n| release("a", n)).collect();
        all.push(release("b", 1));
        let in_use = all.iter().map(|r| r.digest).collect();
        let (listed, left) = select(&all, &in_use, &[]);
        assert_eq!(listed.len() + left, all.len());
        for newest in [("a", 2000), ("b", 1)] {
            assert!(
                listed
                    .iter()
                    .any(|l| (l.name.as_str(), l.counter) == newest)
            );
        }
        let catalog = Catalog {
            fleet: "f".repeat(64),
            version: u64::MAX,
            issued_unix_s: u64::MAX,
            expires_unix_s: u64::MAX,
            releases: listed,
        };
        catalog.encode().unwrap();
    }
}
