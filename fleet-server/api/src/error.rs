//! What the server answers when it does not do what was asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why, for machines; the set only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request does not parse or breaks a rule of its own.
    BadRequest,
    /// No token, or a wrong one.
    Unauthorized,
    /// Whoever asks is known and may not do this.
    Forbidden,
    /// Too many attempts; wait before the next one.
    TooMany,
    /// What was named does not exist.
    NotFound,
    /// It contradicts what is already there.
    Conflict,
    /// More bytes than the limit.
    TooLarge,
    /// Signatures, hashes or formats are wrong; nothing was stored.
    Refused,
    /// The server cannot do it now.
    Unavailable,
    /// A fault of the server; its log says more.
    Internal,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Why, for machines.
    pub code: ErrorCode,
    /// What was wrong and what to do, for people.
    pub message: String,
    /// Finds the request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
