//! Publishing releases, and finding them by the names that people use.
//!
//! A bundle is verified in full before anything of it is stored. Its file is stored before its
//! row: a power cut in between leaves a file that nobody names, and publishing again replaces
//! it.

use drover_api::{Component, Lineage, Release, ReleaseFile};
use drover_bundle::manifest::{FileRole, Manifest};
use drover_bundle::{BundleError, Container};
use drover_trust::{Domain, Envelope, Role, TrustedRoot};
use serde_json::json;

use crate::http::Refusal;
use crate::operator::Actor;
use crate::state::Core;
use crate::store::{Published, ReleaseRow};
use crate::{clock, random};

/// Shortest abbreviation of a digest.
const MIN_DIGEST_DIGITS: usize = 8;

/// Verifies and stores a container, with a key for its chunks when it is confidential.
pub(crate) async fn publish(
    core: &Core,
    actor: &Actor,
    bytes: Vec<u8>,
    confidential: bool,
) -> Result<Release, Refusal> {
    let refused = |e: BundleError| Refusal::refused(with_cause(&e));
    let container = Container::decode(&bytes).map_err(refused)?;
    let root = core.identity.root();
    let verified = container.verify(&root).map_err(refused)?;
    verified.check_chunks(&container.payload).map_err(refused)?;
    let manifest = verified.manifest();
    let envelope = container
        .envelope
        .encode()
        .map_err(|_| Refusal::internal())?;
    let mut row = ReleaseRow {
        digest: *verified.digest(),
        summary: summary(manifest, verified.digest()),
        payload_offset: (bytes.len() - container.payload.len()) as u64,
        chunk_bytes: manifest.chunking.chunk_bytes,
        envelope,
    };
    row.summary.confidential = confidential;
    check_epoch(&root, &row.summary)?;
    // Asked before the file is stored, and again in the transaction that adds the row.
    if let Some(answer) = answer(core, &row, core.store.check_release(&row.summary).await?).await? {
        return Ok(answer);
    }
    let (data, digest) = (core.data.clone(), row.digest);
    let key = match confidential {
        true => Some(random::bytes()?),
        false => None,
    };
    let stored = tokio::task::spawn_blocking(move || {
        // One that a failed attempt left is as good; another would not fit what it sealed.
        if let Some(key) = key
            && data.content_key(&digest)?.is_none()
        {
            data.store_content_key(&digest, &key)?;
        }
        data.store_bundle(&digest, &bytes)
    })
    .await;
    stored.map_err(|_| Refusal::internal())??;
    let entry = actor.entry("release.publish", row.summary.digest.clone());
    let entry = entry.with(&json!({
        "confidential": confidential,
        "counter": row.summary.counter,
        "name": row.summary.name,
        "version": row.summary.version,
    }));
    let published = core.store.add_release(&row, &entry).await?;
    if let Some(answer) = answer(core, &row, published).await? {
        return Ok(answer);
    }
    core.renew_catalog().await?;
    tracing::info!(
        name = row.summary.name,
        digest = row.summary.digest,
        "release published"
    );
    Ok(row.summary)
}

/// The answer to a release that is not added, if it is not.
async fn answer(
    core: &Core,
    row: &ReleaseRow,
    published: Published,
) -> Result<Option<Release>, Refusal> {
    match published {
        Published::New => Ok(None),
        Published::Same => {
            let known = core.store.release(&row.digest).await?;
            let known = known.ok_or_else(Refusal::internal)?;
            if check_signed(&core.identity.root(), &known).is_err() {
                // The keys that had signed it were revoked, and others have signed it again.
                core.store.resign(&row.digest, &row.envelope).await?;
            }
            let known = known.summary;
            if known.confidential != row.summary.confidential {
                return Err(Refusal::conflict(format!(
                    "{} {} is published already, and {}; build it again with a higher counter",
                    known.name,
                    known.version,
                    match known.confidential {
                        true => "confidential",
                        false => "not confidential",
                    }
                )));
            }
            Ok(Some(known))
        }
        Published::Behind { counter, version } => Err(Refusal::conflict(format!(
            "{} {version} with counter {counter} is published already; counters only grow, so \
             build this bundle again with a counter of at least {}",
            row.summary.name,
            counter + 1
        ))),
    }
}

/// Refuses a release that devices would not accept any more.
pub(crate) fn check_epoch(root: &TrustedRoot, release: &Release) -> Result<(), Refusal> {
    let root = root.root();
    if release.epoch >= root.epoch {
        return Ok(());
    }
    Err(Refusal::refused(format!(
        "{} {} has security epoch {}, and root {} asks for at least {}: build it again with that \
         epoch",
        release.name, release.version, release.epoch, root.version, root.epoch
    )))
}

/// Refuses a release whose signatures the newest root does not count any more.
pub(crate) fn check_signed(root: &TrustedRoot, release: &ReleaseRow) -> Result<(), Refusal> {
    let verified = Envelope::decode(&release.envelope)
        .and_then(|e| root.verify(Role::Release, Domain::Manifest, &e).map(drop));
    verified.map_err(|error| {
        Refusal::refused(format!(
            "{} {} is not signed as root {} asks ({error}): sign the bundle again and publish it \
             once more",
            release.summary.name,
            release.summary.version,
            root.root().version
        ))
    })
}

/// The release that a person means by `name`, `name@version`, or digits of its digest.
pub(crate) async fn find(core: &Core, wanted: &str) -> Result<ReleaseRow, Refusal> {
    let releases = core.store.releases().await?;
    let newest = |found: &dyn Fn(&Release) -> bool| {
        let matching = releases.iter().filter(|r| found(&r.summary));
        matching.max_by_key(|r| r.summary.counter).cloned()
    };
    let found = match wanted.split_once('@') {
        Some((name, version)) => newest(&|r| r.name == name && r.version == version),
        None => newest(&|r| r.name == wanted),
    };
    if let Some(release) = found {
        return Ok(release);
    }
    if wanted.len() >= MIN_DIGEST_DIGITS {
        let mut matching = releases
            .iter()
            .filter(|r| r.summary.digest.starts_with(wanted));
        if let (Some(release), None) = (matching.next(), matching.next()) {
            return Ok(release.clone());
        }
    }
    Err(Refusal::not_found(format!(
        "no release is {wanted:?}; give a model name, name@version, or at least \
         {MIN_DIGEST_DIGITS} digits of a digest (see `drover release list`)"
    )))
}

fn summary(manifest: &Manifest, digest: &[u8; 32]) -> Release {
    let hex = |bytes: &[u8; 32]| data_encoding::HEXLOWER.encode(bytes);
    let file = |file: &drover_bundle::FileEntry| ReleaseFile {
        name: file.name.clone(),
        role: match file.role {
            FileRole::Model => "model",
            FileRole::Golden => "golden",
            FileRole::Baseline => "baseline",
            FileRole::Asset => "asset",
        }
        .into(),
        size: file.size,
        sha256: hex(&file.sha256),
    };
    let component = |component: &drover_bundle::Component| Component {
        name: component.name.clone(),
        version: component.version.clone(),
        purl: component.purl.clone(),
    };
    let lineage = &manifest.lineage;
    Release {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        digest: hex(digest),
        counter: manifest.counter,
        epoch: manifest.epoch,
        description: manifest.description.clone(),
        total_bytes: manifest.total_bytes(),
        chunks: u32::try_from(manifest.chunking.digests.len()).unwrap_or(u32::MAX),
        arch: manifest.requires.arch.clone(),
        files: manifest.files.iter().map(file).collect(),
        lineage: Lineage {
            training_run: lineage.training_run.clone(),
            data_version: lineage.data_version.clone(),
            commit: lineage.commit.clone(),
            approved_by: lineage.approved_by.clone(),
            end_of_support_unix_s: lineage.end_of_support_unix_s,
        },
        components: manifest.components.iter().map(component).collect(),
        created_unix_s: manifest.created_unix_s,
        published_unix_s: clock::unix_s(),
        sent_bytes: 0,
        confidential: false,
    }
}

/// An error and what caused it, in one line.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
