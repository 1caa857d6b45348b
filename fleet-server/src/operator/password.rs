//! Passwords: hashed with argon2id, off the threads that answer requests, few at a time.
//!
//! Each hash takes 19 MiB and tens of milliseconds by design; without a bound, logging in
//! would be the cheapest way to take the server down.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use drover_api::Secret;
use tokio::sync::Semaphore;

use crate::http::Refusal;
use crate::random;

/// Hashes made at once at most.
const AT_ONCE: usize = 2;
/// Longest wait for one's turn.
const PATIENCE: Duration = Duration::from_secs(10);
const MIN_BYTES: usize = 12;
const MAX_BYTES: usize = 1024;

/// Hashes and checks passwords.
#[derive(Debug)]
pub(super) struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Passwords {
    /// The hash of a new password.
    pub(super) async fn hash(&self, password: &Secret) -> Result<String, Refusal> {
        let length = password.reveal().len();
        if !(MIN_BYTES..=MAX_BYTES).contains(&length) {
            return Err(Refusal::bad(format!(
                "a password has {MIN_BYTES} to {MAX_BYTES} bytes, this one has {length}"
            )));
        }
        let salt = random::bytes::<16>()?;
        let password = password.clone();
        self.in_turn(move || hash(&password, &salt))
            .await?
            .ok_or_else(Refusal::internal)
    }

    /// Whether `password` is the one of `hash`. Without a hash it is not, which takes as long:
    /// nobody learns from the time whether an account exists.
    pub(super) async fn verify(
        &self,
        password: &Secret,
        stored: Option<String>,
    ) -> Result<bool, Refusal> {
        if password.reveal().len() > MAX_BYTES {
            return Ok(false);
        }
        let password = password.clone();
        self.in_turn(move || match stored {
            None => hash(&password, &[0; 16]).is_none(),
            Some(stored) => PasswordHash::new(&stored).is_ok_and(|stored| {
                let bytes = password.reveal().as_bytes();
                Argon2::default().verify_password(bytes, &stored).is_ok()
            }),
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.turns.clone().acquire_owned();
        let busy = || Refusal::too_many("many people log in right now; try again in a minute");
        let turn = match tokio::time::timeout(PATIENCE, turn).await {
            Ok(Ok(turn)) => turn,
            _ => return Err(busy()),
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|_| Refusal::internal())
    }
}

fn hash(password: &Secret, salt: &[u8]) -> Option<String> {
    let salt = SaltString::encode_b64(salt).ok()?;
    let bytes = password.reveal().as_bytes();
    let hash = Argon2::default().hash_password(bytes, &salt).ok()?;
    Some(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_alone_is_right() {
        let passwords = Passwords::default();
        let right = Secret::new("correct horse battery");
        let hash = passwords.hash(&right).await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(!hash.contains("horse"));
        assert_ne!(hash, passwords.hash(&right).await.unwrap(), "no salt");
        assert!(passwords.verify(&right, Some(hash.clone())).await.unwrap());
        let wrong = Secret::new("correct horse batterz");
        assert!(!passwords.verify(&wrong, Some(hash)).await.unwrap());
        assert!(!passwords.verify(&right, None).await.unwrap());
        assert!(!passwords.verify(&right, Some("x".into())).await.unwrap());
    }

    #[tokio::test]
    async fn short_and_endless_passwords_are_refused() {
        let passwords = Passwords::default();
        for bad in ["short".to_owned(), "x".repeat(MAX_BYTES + 1)] {
            passwords.hash(&Secret::new(bad)).await.unwrap_err();
        }
    }
}
