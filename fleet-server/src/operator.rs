//! Operators: who is asking, what they may do, and how they get in.
//!
//! A token is looked up by its identity and compared by its hash; of a password only the
//! argon2id hash is kept. What somebody may do is asked anew with every request, so that a
//! closed account or a lowered role counts at once. Nothing here logs a secret.

mod account;
mod jwt;
mod login;
mod oidc;
mod password;
mod token;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use drover_api::OperatorRole;

use crate::ServerError;
use crate::config::Config;
use crate::http::Refusal;
use crate::rate::Rate;
use crate::state::Core;
use crate::store::NewEntry;

pub(crate) use account::{add, change_password, set_disabled, set_role};
pub(crate) use login::{finish_oidc, login, start_oidc};
pub use oidc::OidcConfig;
pub(crate) use token::{create as create_token, list as list_tokens, revoke as revoke_token};

/// Account of the token in the data folder.
pub(crate) const BOOTSTRAP: &str = "bootstrap";
/// What the common name of an operator's certificate begins with.
pub(crate) const CERTIFICATE_PREFIX: &str = "operator:";
/// What accounts of the OpenID Connect issuer begin with; no account here can.
const OIDC_PREFIX: &str = "oidc:";
/// In this time a name or address may try so often.
const WINDOW: Duration = Duration::from_secs(600);
const ATTEMPTS_BY_ACCOUNT: u32 = 10;
const ATTEMPTS_BY_ADDRESS: u32 = 30;

/// By which means somebody got in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The token in the data folder.
    Bootstrap,
    /// A token of this identity, and when it ends, in seconds since 1970.
    Token { id: String, expires_unix_s: u64 },
    /// A client certificate.
    Certificate,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bootstrap => f.write_str("bootstrap token"),
            Self::Token { id, .. } => write!(f, "token {id}"),
            Self::Certificate => f.write_str("certificate"),
        }
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) account: String,
    pub(crate) role: OperatorRole,
    pub(crate) how: How,
}

impl Who {
    /// Refuses whoever has a lower role.
    pub(crate) fn demand(&self, needed: OperatorRole) -> Result<(), Refusal> {
        if self.role >= needed {
            return Ok(());
        }
        Err(Refusal::not_allowed(format!(
            "this needs the role {needed}, and {} has the role {}; ask an admin",
            self.account, self.role
        )))
    }
}

/// Who changes something, and why.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) who: Who,
    pub(crate) reason: String,
}

impl Actor {
    /// What the audit log is to say of a change.
    pub(crate) fn entry(&self, what: &'static str, object: impl Into<String>) -> NewEntry {
        NewEntry {
            who: self.who.account.clone(),
            role: self.who.role,
            how: self.who.how.to_string(),
            what,
            object: object.into(),
            detail: String::new(),
            reason: self.reason.clone(),
        }
    }
}

/// What logging in needs beyond the database.
pub(crate) struct Operators {
    passwords: password::Passwords,
    oidc: Option<Arc<oidc::Oidc>>,
    /// Attempts on an account, so that nobody guesses one password.
    by_account: Rate,
    /// Attempts from an address, so that nobody tries one password on every account.
    by_address: Rate,
}

impl Operators {
    pub(crate) fn new(config: &Config) -> Result<Self, ServerError> {
        let oidc = config.oidc.as_ref().map(oidc::Oidc::new).transpose()?;
        Ok(Self {
            passwords: password::Passwords::default(),
            oidc: oidc.map(Arc::new),
            by_account: Rate::new(ATTEMPTS_BY_ACCOUNT, WINDOW),
            by_address: Rate::new(ATTEMPTS_BY_ADDRESS, WINDOW),
        })
    }

    /// Counts an attempt to log in; refuses it when there were too many. Right ones count as
    /// well: whoever sends many at once must not get answers to all before the first counts.
    fn attempt(&self, account: Option<&str>, address: Option<IpAddr>) -> Result<(), Refusal> {
        // The address first: one that is held back adds no accounts to what is remembered.
        let by_address = |a| self.by_address.allows(&network(a).to_string());
        if address.is_none_or(by_address) && account.is_none_or(|a| self.by_account.allows(a)) {
            return Ok(());
        }
        Err(Refusal::too_many(
            "too many attempts to log in; wait ten minutes",
        ))
    }
}

/// One customer has a whole /64 of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        },
    }
}

/// Who shows this bearer token, if it is any good.
pub(crate) async fn of_token(core: &Core, shown: &str) -> Result<Option<Who>, ServerError> {
    token::check(core, shown).await
}

/// Who shows a certificate with this common name, if its account is open.
pub(crate) async fn of_certificate(core: &Core, name: &str) -> Result<Option<Who>, ServerError> {
    let Some(account) = name.strip_prefix(CERTIFICATE_PREFIX) else {
        return Ok(None);
    };
    let found = core.store.operator(account).await?;
    Ok(found.filter(|(o, _)| !o.disabled).map(|(o, _)| Who {
        account: o.name,
        role: o.role,
        how: How::Certificate,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_and_an_address_are_held_back_by_themselves() {
        let operators = Operators::new(&Config::default()).unwrap();
        let ip = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        for n in 0..10 {
            operators.attempt(Some("alice"), ip(n)).unwrap();
        }
        operators.attempt(Some("alice"), ip(20)).unwrap_err();
        operators.attempt(Some("bob"), ip(20)).unwrap();
        // A whole network of addresses counts as one.
        let address = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 0, n, 0, 0, 1]));
        for n in 0..30 {
            let account = format!("a{n}");
            operators.attempt(Some(&account), address(n)).unwrap();
        }
        operators.attempt(Some("carol"), address(99)).unwrap_err();
    }
}
