//! Operators: their accounts, their roles, their tokens, and how they log in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// What somebody may do; each role may do all that the ones before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// Sees everything, changes nothing.
    Viewer,
    /// Enrols and approves devices, starts and approves rollouts.
    Operator,
    /// Publishes releases.
    Releaser,
    /// Manages operators.
    Admin,
}

impl OperatorRole {
    /// Every role, the least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Releaser, Self::Admin];

    /// Its name, as everywhere outside.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Releaser => "releaser",
            Self::Admin => "admin",
        }
    }

    /// The role of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl std::fmt::Display for OperatorRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operator {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: OperatorRole,
    /// Whether nobody gets in with it, its tokens included.
    pub disabled: bool,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: u64,
}

/// Asks for an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddOperator {
    /// 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`, beginning with a letter or digit.
    pub name: String,
    /// What it may do.
    pub role: OperatorRole,
    /// 12 to 1024 bytes.
    pub password: Secret,
}

/// Gives an account another role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRole {
    /// What it may do from now on.
    pub role: OperatorRole,
}

/// Gives an account another password; everyone who logged in with the old one is logged out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The new one, 12 to 1024 bytes.
    pub password: Secret,
    /// The old one; only an admin who changes somebody else's password does without it.
    #[serde(default)]
    pub current: Option<Secret>,
}

/// How a token came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Made by name, for programs.
    Api,
    /// By logging in with a password.
    Login,
    /// By logging in at the OpenID Connect issuer.
    Oidc,
}

/// A token that lets its bearer in, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiToken {
    /// Identity.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Whose it is.
    pub account: String,
    /// What it may do at most; never more than its account may.
    pub role: OperatorRole,
    /// How it came to be.
    pub kind: TokenKind,
    /// When it was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Whether it was taken back.
    pub revoked: bool,
}

/// Asks for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// Name for people, such as the program that is to use it.
    pub name: String,
    /// What it may do; not more than whoever asks.
    pub role: OperatorRole,
    /// How long it lives, in seconds.
    pub ttl_secs: u64,
}

/// A new token; the server does not keep its secret and never shows it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewApiToken {
    /// What to show as bearer.
    pub token: Secret,
    /// What is known of it.
    #[serde(flatten)]
    pub about: ApiToken,
}

/// Logs in with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Name of the account.
    pub name: String,
    /// Its password.
    pub password: Secret,
}

/// Begins to log in at the OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartOidc {
    /// Where the browser comes back to: `http://127.0.0.1:PORT/...` or `http://[::1]:PORT/...`.
    pub redirect_uri: String,
    /// Base64url of the SHA-256 of the verifier that [`FinishOidc::code_verifier`] shows.
    pub code_challenge: String,
}

/// Where to go with a browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StartedOidc {
    /// Page of the issuer.
    pub authorization_url: String,
    /// What the browser has to bring back unchanged; names this attempt.
    pub state: String,
    /// How long that may take, in seconds.
    pub ttl_secs: u64,
}

/// Ends logging in at the OpenID Connect issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FinishOidc {
    /// As [`StartedOidc::state`].
    pub state: String,
    /// What the issuer gave the browser.
    pub code: Secret,
    /// The verifier whose hash was sent first (RFC 7636).
    pub code_verifier: Secret,
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// Account; `bootstrap` for the token in the server's data folder.
    pub account: String,
    /// What may be done.
    pub role: OperatorRole,
    /// By which means, such as `token x7…` or `certificate alice`.
    pub how: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_grow_and_have_one_name() {
        assert!(OperatorRole::ALL.is_sorted());
        for role in OperatorRole::ALL {
            assert_eq!(OperatorRole::parse(role.as_str()), Some(role));
            let json = serde_json::to_string(&role).unwrap();
            assert_eq!(json, format!("\"{role}\""));
        }
        assert_eq!(OperatorRole::parse("root"), None);
    }
}
