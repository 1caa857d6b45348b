//! MQTT over TLS towards the fleet: one connection after the other, each from scratch.
//!
//! The broker is a lossy pipe. Nothing is kept here over a reconnect but the number of the
//! last message: the MQTT session is clean, rumqttc's own queue is thrown away with its
//! client, and what had to arrive is asked for or sent again by those who own it (the
//! machine, and the outbox on the disk). This module signs and numbers what goes out, keeps
//! the certificate fresh, and never judges what comes in; the driver does.

mod renewer;
mod session;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::identity::Membership;
use crate::ota::{Input, LinkEnds};
use crate::trust::Trust;
use renewer::Renewer;
use session::{End, Numbering, Session};

/// Messages that came in and wait for the driver at most; the broker waits beyond that.
const INCOMING: usize = 16;

/// How the link behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// Time without traffic after which the broker is asked whether it lives, in seconds.
    pub keepalive_secs: u64,
    /// Longest time for connecting, in seconds.
    pub connect_timeout_secs: u64,
    /// First wait before a reconnect, in milliseconds; it doubles.
    pub reconnect_base_millis: u64,
    /// Longest wait before a reconnect, in milliseconds.
    pub reconnect_cap_millis: u64,
    /// Messages sent and not yet taken by the broker at most.
    pub in_flight: u16,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            keepalive_secs: 30,
            connect_timeout_secs: 10,
            reconnect_base_millis: 500,
            reconnect_cap_millis: 30_000,
            in_flight: 16,
        }
    }
}

/// Who connects, and what it trusts.
#[derive(Clone, Debug)]
pub struct Party {
    /// The device in its fleet.
    pub member: Arc<Membership>,
    /// Root and time of the update life cycle.
    pub trust: Trust,
    /// Number of this start of the agent.
    pub boot: u64,
}

/// Starts the link; it ends when the driver is gone.
#[must_use]
pub fn start(options: LinkOptions, party: Party, ends: LinkEnds) -> JoinHandle<()> {
    tokio::spawn(run(options, party, ends))
}

async fn run(options: LinkOptions, party: Party, mut ends: LinkEnds) {
    let permits = Arc::new(Semaphore::new(INCOMING));
    let mut numbering = Numbering::start(party.member.device(), party.boot);
    let mut renewer = Renewer::new(&options, &party);
    let mut changes = party.member.watch();
    let mut fleet = party.member.current().fleet.clone();
    let mut attempt = 0;
    let mut reported = String::new();
    loop {
        let enrolment = Arc::clone(&changes.borrow_and_update());
        if enrolment.fleet != fleet {
            fleet.clone_from(&enrolment.fleet);
            renewer.restart();
            attempt = 0;
        }
        let end = if enrolment.access.certificate.is_empty() {
            // Without a certificate there is no point in knocking.
            End::Idle
        } else {
            let session = Session::new(&options, &party, &enrolment, &ends.input, &permits);
            match session {
                Err(error) => End::Lost(crate::chain(&error)),
                Ok(mut session) => {
                    let end = session
                        .serve(
                            &mut ends.outgoing,
                            &mut numbering,
                            &mut renewer,
                            &mut changes,
                        )
                        .await;
                    if session.was_ready() {
                        attempt = 0;
                        reported.clear();
                        if ends.input.send(Input::Disconnected).is_err() {
                            return;
                        }
                    }
                    end
                }
            }
        };
        match end {
            End::DriverGone => return,
            // The new certificate, or the new fleet, is used at once.
            End::Changed => continue,
            End::Idle => {}
            End::Refused(why) => {
                renewer.refused();
                report(&enrolment.access, why, &mut reported);
            }
            End::Lost(why) => report(&enrolment.access, why, &mut reported),
        }
        let wait = tokio::time::sleep(pause(&options, attempt));
        tokio::pin!(wait);
        attempt = attempt.saturating_add(1);
        let idle = enrolment.access.certificate.is_empty();
        loop {
            tokio::select! {
                () = &mut wait, if !idle => break,
                renewed = renewer.renewed() => {
                    if ends.input.send(Input::Granted(renewed)).is_err() {
                        return;
                    }
                    break;
                }
                changed = changes.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                // What nobody can send is dropped, so that it is not sent late.
                dropped = ends.outgoing.recv() => if dropped.is_none() { return },
            }
        }
    }
}

/// The same trouble is told once, not at every attempt.
fn report(access: &drover_wire::enrol::Access, why: String, reported: &mut String) {
    if why == *reported {
        return;
    }
    tracing::warn!(
        broker = format!("{}:{}", access.broker_host, access.broker_port),
        why,
        "no connection to the fleet; inference goes on, records are kept"
    );
    *reported = why;
}

/// The wait before a reconnect: doubling, capped, and jittered over its whole length, so
/// that a fleet that lost its broker does not come back in one moment.
fn pause(options: &LinkOptions, attempt: u32) -> Duration {
    let factor = 1u64.checked_shl(attempt).unwrap_or(u64::MAX);
    let whole = options
        .reconnect_base_millis
        .saturating_mul(factor)
        .min(options.reconnect_cap_millis)
        .max(2);
    let random = getrandom::u64().unwrap_or(0);
    Duration::from_millis(whole / 4 + random % (whole - whole / 4 + 1))
}

#[cfg(test)]
mod tests;
