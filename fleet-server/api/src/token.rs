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

/// What a device must be to be approved without an operator; every part that is given must
/// hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Its architecture, as Rust names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// How the serial number of its board begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_prefix: Option<String>,
    /// Labels that it has, by the token or by its own word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ApprovalRule {
    /// Whether a device is like this.
    #[must_use]
    pub fn matches(&self, arch: &str, hardware: &str, labels: &BTreeMap<String, String>) -> bool {
        self.arch.as_deref().is_none_or(|wanted| wanted == arch)
            && self
                .hardware_prefix
                .as_deref()
                .is_none_or(|wanted| hardware.starts_with(wanted))
            && self.labels.iter().all(|(k, v)| labels.get(k) == Some(v))
    }

    /// Whether it asks for nothing, and so would approve everybody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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
    /// Approves by itself the devices that are like this and lets the others wait, whatever
    /// `approval` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve_if: Option<ApprovalRule>,
    /// Labels that those devices get.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Identity of the one device that may use them; anybody may without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_device: Option<String>,
}

/// A claim token; it enrols one device and is shown only here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// `<claim id>.<secret>`, to hand to one device.
    pub token: String,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = self.token.split_once('.').map_or("", |(id, _)| id);
        write!(f, "Token({id}.…, until {})", self.expires_unix_s)
    }
}
