//! The end of the audit log, signed: what an export carries so that nobody can cut it short.

use data_encoding::HEXLOWER;
use drover_api::AuditHead;
use drover_trust::Domain;

use crate::state::Core;
use crate::{ServerError, clock};

/// The newest entry, signed by the fleet key now.
pub(crate) async fn head(core: &Core) -> Result<AuditHead, ServerError> {
    let (number, hash) = core.store.audit_end().await?;
    let mut head = AuditHead {
        fleet: core.identity.fleet().to_owned(),
        number,
        hash,
        unix_ms: clock::unix_ms(),
        envelope: String::new(),
    };
    let statement = head.statement().into_bytes();
    let envelope = core.identity.sign_as_fleet(Domain::AuditHead, statement)?;
    head.envelope = HEXLOWER.encode(&envelope);
    Ok(head)
}
