//! Claim tokens, by which devices enrol.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happens to a device that enrols with a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// It takes part at once.
    #[default]
    Auto,
    /// It waits until an operator approves it.
    Manual,
}

/// Asks for claim tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTokens {
    /// How many, 1 to 1000.
    pub count: u32,
    /// How long they can be used, in seconds.
    pub ttl_secs: u64,
    /// What happens to devices that use them.
    #[serde(default)]
    pub approval: Approval,
    /// Labels that those devices get.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A claim token; it enrols one device and is shown only here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// `<claim id>.<secret>`, to hand to one device.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
}
