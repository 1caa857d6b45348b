//! MQTT towards the fleet: one connection after the other, each from scratch.
//!
//! The broker is a lossy pipe. Nothing is kept here over a reconnect: the MQTT session is
//! clean, rumqttc's own queue is thrown away with its client, and what had to arrive is asked
//! for or sent again by those who own it (the machine, and the outbox on the disk). This
//! module signs what goes out and never judges what comes in; the driver does.

mod session;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::identity::Identity;
use crate::ota::{Input, LinkEnds};
use session::{End, Session};

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

/// Starts the link; it ends when the driver is gone.
#[must_use]
pub fn start(options: LinkOptions, identity: Arc<Identity>, ends: LinkEnds) -> JoinHandle<()> {
    tokio::spawn(run(options, identity, ends))
}

async fn run(options: LinkOptions, identity: Arc<Identity>, mut ends: LinkEnds) {
    let permits = Arc::new(Semaphore::new(INCOMING));
    let mut attempt = 0;
    let mut reported = String::new();
    loop {
        let mut session = Session::new(&options, &identity, &ends.input, &permits);
        let end = session.serve(&mut ends.outgoing).await;
        if session.was_ready() {
            attempt = 0;
            reported.clear();
            if ends.input.send(Input::Disconnected).is_err() {
                return;
            }
        }
        match end {
            End::DriverGone => return,
            // The same trouble is told once, not at every attempt.
            End::Lost(why) if why != reported => {
                tracing::warn!(
                    broker = format!(
                        "{}:{}",
                        identity.enrolment.broker_host, identity.enrolment.broker_port
                    ),
                    why,
                    "no connection to the fleet; inference goes on, records are kept"
                );
                reported = why;
            }
            End::Lost(_) => {}
        }
        let wait = tokio::time::sleep(pause(&options, attempt));
        tokio::pin!(wait);
        attempt = attempt.saturating_add(1);
        loop {
            tokio::select! {
                () = &mut wait => break,
                // What nobody can send is dropped, so that it is not sent late.
                dropped = ends.outgoing.recv() => if dropped.is_none() { return },
            }
        }
    }
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
