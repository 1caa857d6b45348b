//! Moving to another fleet: asked for by a voucher that the old fleet's root role signed.
//!
//! The new fleet is asked first, with the claim in the voucher, and is held to the root that
//! the voucher names; only then the identity is replaced, in one step. What was the old
//! fleet's in the durable state is reset by [`drover_agent_core::Machine::new`], which finds
//! a root of another fleet there; a power cut between the two steps is found the same way.

use drover_agent_core::Durable;
use drover_agent_store::{RecordKey, StoreError};
use drover_trust::{Envelope, SecretKey, TrustError, TrustedRoot, Voucher};

use super::SharedJournal;
use crate::enrol::{self, EnrolError, Request};
use crate::identity::Enrolment;

/// Records that are looked at in one go while they are removed.
const PAGE_RECORDS: usize = 1024;
/// Bytes that are looked at in one go.
const PAGE_BYTES: u64 = 1 << 20;

/// Joins the fleet that a verified voucher names. Nothing is stored.
///
/// # Errors
/// [`EnrolError`]; the device stays where it is.
pub(crate) fn join(voucher: &Voucher, key: &SecretKey) -> Result<Enrolment, EnrolError> {
    let request = Request {
        server: voucher.server.clone(),
        token: voucher.claim.clone(),
        data: std::path::PathBuf::new(),
        name: String::new(),
        labels: std::collections::BTreeMap::new(),
        root_pin: Some(voucher.to_root),
    };
    let enrolment = enrol::join(&request, key, None)?;
    if enrolment.fleet != voucher.to_fleet {
        return Err(EnrolError::Root(TrustError::Fleet));
    }
    Ok(enrolment)
}

/// Whether `durable` is of another fleet than `root`.
pub(super) fn has_left(durable: &Durable, root: &TrustedRoot) -> bool {
    let stored = durable.root.as_deref().and_then(|bytes| {
        let envelope = Envelope::decode(bytes).ok()?;
        TrustedRoot::self_signed(envelope).ok()
    });
    stored.is_some_and(|stored| stored.root().fleet != root.root().fleet)
}

/// Removes all records: they are the old owner's, and none of the new one's business.
///
/// # Errors
/// [`StoreError`]; some may be left.
pub(super) fn forget_records(journal: &SharedJournal) -> Result<(), StoreError> {
    loop {
        let removed = journal.with(|j| {
            let page = j.oldest(PAGE_RECORDS, PAGE_BYTES, None)?;
            let keys: Vec<RecordKey> = page.into_iter().map(|(key, _)| key).collect();
            if keys.is_empty() {
                Ok(0)
            } else {
                j.remove(&keys)
            }
        })?;
        if removed == 0 {
            return journal.with(|j| j.flush());
        }
    }
}
