//! Request and response types of the REST interface, and its client.
//!
//! Types only ever gain optional fields. Names of fields carry their units; digests are
//! lower-case hexadecimal. This crate holds no rules: the server decides.

pub mod affected;
pub mod audit;
pub mod broker;
pub mod client;
pub mod data;
pub mod device;
pub mod drift;
pub mod error;
pub mod event;
pub mod observation;
pub mod operator;
pub mod release;
pub mod rollout;
pub mod secret;
pub mod status;
pub mod token;
pub mod trust;

pub use affected::{Affected, AffectedDevice, UnknownDevice};
pub use audit::{AuditEntry, AuditHead};
pub use broker::{
    Broker, BrokerKind, CertifyOperator, ConfigFile, MosquittoRequest, OperatorCertificate, Revoked,
};
pub use client::{ApiError, Client, REASON_HEADER, TlsFiles};
pub use data::BootStats;
pub use device::{Device, Phase, RevokeDevice, Running};
pub use drift::{DeviceDrift, DriftStatus, FeatureDrift, FleetFeatureDrift, Level};
pub use error::{ErrorBody, ErrorCode};
pub use event::{Event, Severity};
pub use observation::{Decision, Observation, ObservationSummary};
pub use operator::{
    AddOperator, ApiToken, CreateApiToken, FinishOidc, Login, NewApiToken, Operator, OperatorRole,
    SetPassword, SetRole, StartOidc, StartedOidc, TokenKind, WhoAmI,
};
pub use release::{Component, Lineage, Release, ReleaseFile, ReleaseRef};
pub use rollout::{
    CreateRollout, DeviceCounts, DeviceStatus, Policy, Rollout, RolloutDevice, RolloutState,
    Selector, Stage, StageStatus, Strategy,
};
pub use secret::Secret;
pub use status::{Health, Status};
pub use token::{Approval, ApprovalRule, CreateTokens, Token};
pub use trust::{Catalog, CatalogEntry, DeviceTrust, InstalledBundle, RefusedCount, RootVersion};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A list, in an object so that it can grow fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The entries.
    pub items: Vec<T>,
}
