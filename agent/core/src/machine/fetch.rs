//! Getting a bundle here: manifest, compatibility, chunks, files.
//!
//! Nothing that comes in is used before it has been checked against a signature: the
//! manifest against the release keys and the assignment, each chunk against its digest in
//! the manifest. A power cut loses at most chunks, which are asked for again.

use drover_bundle::{BundleError, Manifest, VerifiedManifest};
use drover_trust::Envelope;
use drover_trust::mutation::{Check, is_disabled};
use drover_wire::bitmap::Bitmap;
use drover_wire::message::{Digest, FailureCode, Step, Up};

use super::pace::Pace;
use super::report::describe;
use super::{Machine, Phase, Timing};
use crate::{Ctx, Effect, Progress};

/// A download under way.
#[derive(Debug)]
pub(super) struct Fetch {
    manifest: Box<VerifiedManifest>,
    missing: Bitmap,
    pace: Pace,
    /// The key was asked for since the last answer to a request.
    asked_for_key: bool,
}

impl Fetch {
    fn new(manifest: Box<VerifiedManifest>, here: &[u32], now_ms: u64) -> Self {
        let mut missing = Bitmap::full(chunks_of(&manifest));
        here.iter().for_each(|&index| missing.remove(index));
        Self {
            manifest,
            missing,
            pace: Pace::new(now_ms),
            asked_for_key: false,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.pace.is_paused()
    }

    pub(super) fn pace_deadline(&self, timing: &Timing) -> Option<u64> {
        self.pace.deadline(timing)
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
        let message = match &mut self.phase {
            Phase::Manifest { .. } => Up::WantManifest { digest },
            Phase::Chunks(fetch) => {
                fetch.asked_for_key = false;
                Up::WantChunks {
                    digest,
                    missing: fetch.missing.clone(),
                }
            }
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
        self.manifest = Some(bytes.to_vec());
        let fetch = Fetch::new(Box::new(verified), &here, ctx.now_ms());
        self.fetch(ctx, fetch);
    }

    /// Everything that can be said against a manifest before anything of it is fetched.
    pub(super) fn verified(&self, bytes: &[u8]) -> Result<VerifiedManifest, (FailureCode, String)> {
        let envelope = Envelope::decode(bytes)
            .map_err(|error| (FailureCode::SignatureInvalid, format!("manifest: {error}")))?;
        let verified = VerifiedManifest::open(&envelope, self.bearing_root()).map_err(|error| {
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
            (manifest.epoch == candidate.epoch, "epoch"),
            (manifest.total_bytes() == candidate.total_bytes, "size"),
        ];
        if let Some((_, what)) = pairs.iter().find(|(same, _)| !same) {
            let detail = format!("the released bundle's {what} differs from the assigned one");
            return Err((FailureCode::Mismatch, detail));
        }
        if let Some(why) = self.below_floor(&manifest.name, manifest.counter, manifest.epoch) {
            return Err(why);
        }
        self.compatible(manifest)
            .map_err(|detail| (FailureCode::Incompatible, detail))?;
        Ok(verified)
    }

    fn compatible(&self, manifest: &Manifest) -> Result<(), String> {
        if is_disabled(Check::Compatibility) {
            return Ok(());
        }
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
            self.enter(Phase::Staging(fetch.manifest), Progress::Fetching);
            self.report(ctx);
            return self.stage(ctx);
        }
        let digest = *fetch.manifest.digest();
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
        let digest = *fetch.manifest.digest();
        let Err(error) = fetch.manifest.check_chunk(index, &bytes) else {
            fetch.pace.good(ctx.now_ms());
            if !fetch.is_paused() {
                self.backoff.reset();
                self.set_timer(ctx);
            }
            return ctx.effect(Effect::StoreChunk {
                digest,
                index,
                bytes,
            });
        };
        // It is asked for again with everything else that is missing.
        let is_enough = fetch
            .pace
            .bad(&self.config.timing, ctx.now_ms(), fetch.total());
        let detail = error.to_string();
        if is_enough {
            self.pause_download(ctx, FailureCode::Mismatch, detail);
        } else {
            self.refuse(ctx, Some(digest), FailureCode::Mismatch, detail);
        }
    }

    /// A chunk came encrypted, and its key has not come.
    pub(super) fn ask_for_key(&mut self, ctx: &mut impl Ctx, digest: Digest) {
        if let Phase::Chunks(fetch) = &mut self.phase
            && !std::mem::replace(&mut fetch.asked_for_key, true)
        {
            self.publish(ctx, Up::WantManifest { digest });
        }
    }

    /// The device is connected anew: the time without a connection does not count.
    pub(super) fn start_pace(&mut self, now_ms: u64) {
        if let Phase::Chunks(fetch) = &mut self.phase {
            fetch.pace = Pace::new(now_ms);
        }
    }

    /// Leaves a source alone that is too slow; whether it did.
    pub(super) fn judge_pace(&mut self, ctx: &mut impl Ctx) -> bool {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return false;
        };
        let (have, total) = (fetch.have(), fetch.total());
        let timing = &self.config.timing;
        match fetch.pace.judge(timing, ctx.now_ms(), have, total) {
            Some((code, detail)) if self.connected => {
                self.pause_download(ctx, code, detail);
                true
            }
            _ => false,
        }
    }

    fn pause_download(&mut self, ctx: &mut impl Ctx, code: FailureCode, detail: String) {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return self.ignore();
        };
        fetch.pace.pause();
        let digest = *fetch.manifest.digest();
        ctx.effect(Effect::Unsubscribe { digest });
        let wait = self.pauses.next_ms(ctx.random());
        self.retry_at = Some(ctx.now_ms().saturating_add(wait));
        self.refuse(ctx, Some(digest), code, detail);
    }

    /// The next attempt after a pause.
    pub(super) fn resume_download(&mut self, ctx: &mut impl Ctx) {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return self.ignore();
        };
        fetch.pace = Pace::new(ctx.now_ms());
        let digest = *fetch.manifest.digest();
        ctx.effect(Effect::Subscribe { digest });
        self.backoff.reset();
        self.request(ctx);
    }

    /// A chunk is on the disk.
    pub(super) fn count_chunk(&mut self, ctx: &mut impl Ctx, index: u32) {
        let Phase::Chunks(fetch) = &mut self.phase else {
            return self.ignore();
        };
        let quarter = |fetch: &Fetch| u64::from(fetch.have()) * 4 / u64::from(fetch.total().max(1));
        let before = quarter(fetch);
        fetch.missing.remove(index);
        if !fetch.missing.is_empty() && !is_disabled(Check::Completeness) {
            if quarter(fetch) != before {
                self.report(ctx);
            }
            return;
        }
        let manifest = fetch.manifest.clone();
        ctx.effect(Effect::Unsubscribe {
            digest: *manifest.digest(),
        });
        self.enter(Phase::Staging(manifest), Progress::Fetching);
        self.report(ctx);
        self.stage(ctx);
    }

    /// Has the chunks made files.
    pub(super) fn stage(&self, ctx: &mut impl Ctx) {
        if let (Phase::Staging(manifest), Some(envelope)) = (&self.phase, &self.manifest) {
            ctx.effect(Effect::Stage {
                manifest: manifest.clone(),
                envelope: envelope.clone(),
            });
        }
    }

    /// Chunks or files turned out to be missing or damaged.
    pub(super) fn fetch_again(&mut self, ctx: &mut impl Ctx, chunks: Vec<u32>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Staging(manifest) => {
                let fetch = Fetch::new(manifest, &chunks, ctx.now_ms());
                self.fetch(ctx, fetch);
            }
            _ => {
                self.retract_attempt();
                self.manifest = None;
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
