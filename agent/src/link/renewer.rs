//! Keeps the certificate fresh, beside whatever the connection does meanwhile.
//!
//! One is asked for while there is none (the device waits for approval), when two thirds of
//! its life are over by the trusted time, and when the broker refused the device. Requests
//! back off and are jittered; one at a time is under way. What comes is on the disk before it
//! is used, so that a power cut leaves the former certificate or the new one.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{LinkOptions, Party};
use crate::identity::Membership;
use crate::renew::{self, RenewError, Renewed};
use crate::trust::Trust;

/// How often the trusted time is compared with the certificate's.
const CHECK: Duration = Duration::from_secs(5);
/// Least time between two certificates that are due by the trusted time, which a stolen
/// fleet key may have moved far ahead.
const AGAIN: Duration = Duration::from_secs(3600);

/// See the module.
#[derive(Debug)]
pub(super) struct Renewer {
    member: Arc<Membership>,
    trust: Trust,
    options: LinkOptions,
    running: Option<JoinHandle<Result<Renewed, RenewError>>>,
    /// The broker refused the certificate.
    refused: bool,
    /// Requests since the last connection.
    attempt: u32,
    /// When the next request may be made.
    not_before: Instant,
    /// When the next request may be made only because the certificate is due.
    due_not_before: Instant,
    reported: String,
}

impl Renewer {
    pub(super) fn new(options: &LinkOptions, party: &Party) -> Self {
        let now = Instant::now();
        Self {
            member: Arc::clone(&party.member),
            trust: party.trust.clone(),
            options: options.clone(),
            running: None,
            refused: false,
            attempt: 0,
            not_before: now,
            due_not_before: now,
            reported: String::new(),
        }
    }

    /// The broker took the certificate.
    pub(super) fn accepted(&mut self) {
        self.refused = false;
        self.attempt = 0;
        self.reported.clear();
    }

    /// The broker may have refused the certificate.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }

    /// Forgets what belonged to another fleet.
    pub(super) fn restart(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.accepted();
        self.not_before = Instant::now();
        self.due_not_before = self.not_before;
    }

    /// Waits until something new came: a certificate, or other authorities or addresses.
    /// Dropping the wait loses nothing.
    pub(super) async fn renewed(&mut self) -> Renewed {
        loop {
            if let Some(running) = &mut self.running {
                let outcome = running.await;
                self.running = None;
                // A panic there was reported when it happened.
                if let Ok(outcome) = outcome
                    && let Some(renewed) = self.judge(outcome)
                {
                    return renewed;
                }
            }
            let now = Instant::now();
            match self.wanted_at() {
                Some(at) if at <= now => self.ask(),
                Some(at) => tokio::time::sleep_until(at.min(now + CHECK)).await,
                None => tokio::time::sleep(CHECK).await,
            }
        }
    }

    fn wanted_at(&self) -> Option<Instant> {
        let held = self.member.current();
        if self.refused || held.access.certificate.is_empty() {
            return Some(self.not_before);
        }
        let due = held.access.renew_unix_s <= self.trust.now_s();
        due.then_some(self.not_before.max(self.due_not_before))
    }

    fn ask(&mut self) {
        let member = Arc::clone(&self.member);
        let root = self.trust.root();
        self.running = Some(tokio::task::spawn_blocking(move || {
            let renewed = renew::renew(member.key(), &member.current(), &root)?;
            member.renew(renewed.enrolment.clone())?;
            Ok(renewed)
        }));
    }

    fn judge(&mut self, outcome: Result<Renewed, RenewError>) -> Option<Renewed> {
        let now = Instant::now();
        self.not_before = now + super::pause(&self.options, self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        match outcome {
            Ok(renewed) if renewed.granted => {
                tracing::info!(
                    until = renewed.enrolment.access.expires_unix_s,
                    "the fleet granted a certificate"
                );
                self.refused = false;
                self.reported.clear();
                self.due_not_before = now + AGAIN;
                Some(renewed)
            }
            Ok(_) => {
                self.report("the device waits for approval (`drover device approve`)".into());
                None
            }
            Err(error) => {
                self.report(crate::chain(&error));
                None
            }
        }
    }

    /// The same trouble is told once, not at every attempt.
    fn report(&mut self, why: String) {
        if why != self.reported {
            tracing::warn!(why, "no new certificate; inference goes on");
            self.reported = why;
        }
    }
}
