//! Getting a bundle here: manifest, compatibility, chunks, files.
//!
//! Nothing that comes in is used before it has been checked against a signature: the
//! manifest against the release keys and the assignment, each chunk against its digest in
//! the manifest. A power cut loses at most chunks, which are asked for again.

use std::collections::BTreeMap;

use drover_bundle::{BundleError, Manifest, VerifiedManifest};
use drover_trust::Envelope;
use drover_wire::bitmap::Bitmap;
use drover_wire::message::{FailureCode, Step, Up};

use super::report::describe;
use super::{Machine, Phase};
use crate::{Ctx, Effect, Progress};

/// A chunk that came wrong this often is wrong at its source.
const MAX_BAD: u8 = 3;

/// A verified manifest with the bytes that it came in.
#[derive(Clone, Debug)]
pub(super) struct Release {
    manifest: Box<VerifiedManifest>,
    envelope: Vec<u8>,
}

/// A download under way.
#[derive(Debug)]
pub(super) struct Fetch {
    release: Release,
    missing: Bitmap,
    bad: BTreeMap<u32, u8>,
}

impl Fetch {
    fn new(release: Release, here: &[u32]) -> Self {
        let mut missing = Bitmap::full(chunks_of(&release.manifest));
        here.iter().for_each(|&index| missing.remove(index));
        Self {
            release,
            missing,
            bad: BTreeMap::new(),
        }
    }

    pub(super) fn total(&self) -> u32 {
        self.missing.len()
    }

    pub(super) fn have(&self) -> u32 {
        let missing = u32::try_from(self.missing.count()).unwrap_or(u32::MAX);
        self.total().saturating_sub(missing)
    }
}

fn chunks_of(manifest: &VerifiedManifest) -> u32 {
    let digests = &manifest.manifest().chunking.digests;
    // A manifest is too small to name more.
    u32::try_from(digests.len()).unwrap_or(u32::MAX)
}

impl Machine {
    /// Asks for what is missing, and sets the timer to ask again.
    pub(super) fn request(&mut self, ctx: &mut impl Ctx) {
        let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) else {
            return;
        };
        let message = match &self.phase {
            Phase::Manifest { .. } => Up::WantManifest { digest },
            Phase::Chunks(fetch) => Up::WantChunks {
                digest,
                missing: fetch.missing.clone(),
            },
            Phase::Asleep | Phase::Idle | Phase::Staging(_) | Phase::Loading | Phase::Trial => {
                return;
            }
        };
        self.publish(ctx, message);
        self.set_timer(ctx);
    }

    fn set_timer(&mut self, ctx: &mut impl Ctx) {
        let wait = self.backoff.next_ms(ctx.random());
        self.retry_at = Some(ctx.now_ms().saturating_add(wait));
    }

    /// A manifest for the candidate came, from the server or from the disk.
    pub(super) fn take_manifest(&mut self, ctx: &mut impl Ctx, bytes: &[u8]) {
        let Phase::Manifest { chunks } = &mut self.phase else {
            return self.ignore();
        };
        let here = std::mem::take(chunks);
        let Some(candidate) = &self.durable.candidate else {
            return self.ignore();
        };
        let digest = candidate.digest;
        let verified = match self.verified(bytes) {
            Ok(verified) => verified,
            Err((code, detail)) => return self.fail(ctx, digest, Step::Accept, code, detail),
        };
        let version = verified.manifest().version.clone();
        if let Some(candidate) = &mut self.durable.candidate
            && candidate.version != version
        {
            candidate.version = version;
            self.dirty = true;
        }
        ctx.effect(Effect::StoreManifest {
            digest,
            envelope: bytes.to_vec(),
        });
        self.backoff.reset();
        let release = Release {
            manifest: Box::new(verified),
            envelope: bytes.to_vec(),
        };
        self.fetch(ctx, Fetch::new(release, &here));
    }

    /// Everything that can be said against a manifest before anything of it is fetched.
    pub(super) fn verified(&self, bytes: &[u8]) -> Result<VerifiedManifest, (FailureCode, String)> {
        let envelope = Envelope::decode(bytes)
            .map_err(|error| (FailureCode::SignatureInvalid, format!("manifest: {error}")))?;
        let verified = VerifiedManifest::open(&envelope, &self.config.root).map_err(|error| {
            let code = match error {
                BundleError::Manifest(_) => FailureCode::Incompatible,
                _ => FailureCode::SignatureInvalid,
            };
            (code, describe(&error))
        })?;
        let Some(candidate) = &self.durable.candidate else {
            return Err((FailureCode::Mismatch, "nothing is assigned".into()));
        };
        let manifest = verified.manifest();
        let pairs = [
            (verified.digest() == &candidate.digest, "digest"),
            (manifest.name == candidate.name, "name"),
            (manifest.counter == candidate.counter, "counter"),
            (manifest.total_bytes() == candidate.total_bytes, "size"),
        ];
        if let Some((_, what)) = pairs.iter().find(|(same, _)| !same) {
            let detail = format!("the released bundle's {what} differs from the assigned one");
            return Err((FailureCode::Mismatch, detail));
        }
        if let Some(why) = self.below_floor(&manifest.name, manifest.counter) {
            return Err(why);
        }
        self.compatible(manifest)
            .map_err(|detail| (FailureCode::Incompatible, detail))?;
        Ok(verified)
    }

    fn compatible(&self, manifest: &Manifest) -> Result<(), String> {
        let (requires, platform) = (&manifest.requires, &self.config.platform);
        if !platform.engines.contains(&requires.engine) {
            return Err(format!(
                "it needs the engine {}, this agent has {}",
                requires.engine,
                platform.engines.join(", ")
            ));
        }
        if !requires.arch.is_empty() && !requires.arch.contains(&platform.arch) {
            return Err(format!(
                "it is for {}, this device is {}",
                requires.arch.join(", "),
                platform.arch
            ));
        }
        if requires.memory_bytes > platform.model_memory_bytes {
            return Err(format!(
                "it needs {} bytes of memory, a model may take {} here",
                requires.memory_bytes, platform.model_memory_bytes
            ));
        }
        Ok(())
    }

    /// Goes on with a download, or past it when nothing is missing.
    fn fetch(&mut self, ctx: &mut impl Ctx, fetch: Fetch) {
        if fetch.missing.is_empty() {
            self.enter(Phase::Staging(fetch.release), Progress::Fetching);
            self.report(ctx);
            return self.stage(ctx);
        }
        let digest = *fetch.release.manifest.digest();
        self.enter(Phase::Chunks(fetch), Progress::Fetching);
        ctx.effect(Effect::Subscribe { digest });
        self.report(ctx);
        self.request(ctx);
    }

    /// A chunk came; it is kept only if it is the signed one.
    pub(super) fn take_chunk(&mut self, ctx: &mut impl Ctx, index: u32, bytes: Vec<u8>) {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return self.ignore();
        };
        // Other devices asked for what is here already.
        if index < fetch.total() && !fetch.missing.contains(index) {
            return self.ignore();
        }
        let digest = *fetch.release.manifest.digest();
        let Err(error) = fetch.release.manifest.check_chunk(index, &bytes) else {
            self.backoff.reset();
            self.set_timer(ctx);
            return ctx.effect(Effect::StoreChunk {
                digest,
                index,
                bytes,
            });
        };
        // An index out of range is somebody's noise, not a fault of the bundle's source.
        let mut times = 0;
        if index < fetch.total() {
            let bad = fetch.bad.entry(index).or_default();
            *bad = bad.saturating_add(1);
            times = *bad;
        }
        let detail = error.to_string();
        if times >= MAX_BAD {
            self.fail(ctx, digest, Step::Fetch, FailureCode::Mismatch, detail);
        } else {
            self.refuse(ctx, Some(digest), FailureCode::Mismatch, detail);
        }
    }

    /// A chunk is on the disk.
    pub(super) fn count_chunk(&mut self, ctx: &mut impl Ctx, index: u32) {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return self.ignore();
        };
        let quarter = |fetch: &Fetch| u64::from(fetch.have()) * 4 / u64::from(fetch.total().max(1));
        let before = quarter(fetch);
        fetch.missing.remove(index);
        if !fetch.missing.is_empty() {
            if quarter(fetch) != before {
                self.report(ctx);
            }
            return;
        }
        let release = fetch.release.clone();
        ctx.effect(Effect::Unsubscribe {
            digest: *release.manifest.digest(),
        });
        self.enter(Phase::Staging(release), Progress::Fetching);
        self.report(ctx);
        self.stage(ctx);
    }

    /// Has the chunks made files.
    pub(super) fn stage(&self, ctx: &mut impl Ctx) {
        if let Phase::Staging(release) = &self.phase {
            ctx.effect(Effect::Stage {
                manifest: release.manifest.clone(),
                envelope: release.envelope.clone(),
            });
        }
    }

    /// Chunks or files turned out to be missing or damaged.
    pub(super) fn fetch_again(&mut self, ctx: &mut impl Ctx, chunks: Vec<u32>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Staging(release) => self.fetch(ctx, Fetch::new(release, &chunks)),
            _ => {
                self.retract_attempt();
                self.enter(Phase::Manifest { chunks }, Progress::Fetching);
                self.report(ctx);
                self.request(ctx);
            }
        }
    }

    /// The chunks are here and did not become files.
    pub(super) fn stage_failed(&mut self, ctx: &mut impl Ctx, code: FailureCode, detail: String) {
        let Some(digest) = self.durable.candidate.as_ref().map(|c| c.digest) else {
            return self.ignore();
        };
        if code == FailureCode::StorageFull {
            self.refuse(ctx, Some(digest), code, detail);
            return self.set_timer(ctx);
        }
        self.change().quarantine_mut(digest).is_final = true;
        self.fail(ctx, digest, Step::Fetch, code, detail);
    }
}
