//! The node's side of the link as a sans-IO state machine: greet until welcomed, then sample.
//!
//! Either end may vanish at any moment. A silent host sends the node back to greeting; a ping of
//! a foreign session, which is what a restarted host sends, does so at once. Nothing is kept
//! over a restart, so there is nothing that a power cut could damage.

use drover_wire::node::{
    Decoder, Hello, Level, Log, MAX_CHANNELS, MAX_FRAME, NodeDown, NodeUp, PROTO_VERSION, Pong,
    Samples, encode,
};
use heapless::{String, Vec};

use crate::sensor::{Fault, Sensor};

/// Time between greetings.
pub const HELLO_EVERY_US: u64 = 500_000;
/// A welcomed node that heard nothing for this long greets again. Hosts ping every second.
pub const HOST_SILENCE_US: u64 = 5_000_000;
/// The sampling period until the host sets one.
pub const DEFAULT_PERIOD_MS: u32 = 100;
/// The shortest period: two frames of eight channels still fit a line of 115 200 baud.
pub const MIN_PERIOD_MS: u32 = 10;
/// The longest period, one hour.
pub const MAX_PERIOD_MS: u32 = 3_600_000;

/// Takes whole frames towards the host.
pub trait Sink {
    /// Sends `frame`, or drops it when the line takes nothing: the link may lose frames, but
    /// must never hold up the node.
    fn send(&mut self, frame: &[u8]);
}

/// What happens to a node.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Time passed; due work is done. At least every few milliseconds.
    Tick,
    /// Bytes came in, cut anywhere.
    Received(&'a [u8]),
}

/// What a node says of itself in its greeting; texts too long for it are cut.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The chip's own number, or one that its firmware was given.
    pub uid: [u8; 8],
    /// The board's name as in `targets/`.
    pub board: &'static str,
    /// The firmware's version.
    pub fw_version: &'static str,
}

/// A node with one sensor.
#[derive(Debug)]
pub struct Node<S> {
    identity: Identity,
    sensor: S,
    decoder: Decoder<NodeDown>,
    phase: Phase,
    period_ms: u32,
    sensor_errors: u32,
    /// The fault that was logged last and has not gone away.
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Greeting {
        next_hello_us: u64,
    },
    Streaming {
        session: u32,
        next_seq: u32,
        next_sample_us: u64,
        heard_us: u64,
    },
}

impl<S: Sensor> Node<S> {
    /// A node that will greet at its first tick.
    #[must_use]
    pub const fn new(identity: Identity, sensor: S) -> Self {
        const {
            assert!(
                S::CHANNELS.len() <= MAX_CHANNELS,
                "too many channels for a frame"
            )
        }
        Self {
            identity,
            sensor,
            decoder: Decoder::new(),
            phase: Phase::Greeting { next_hello_us: 0 },
            period_ms: DEFAULT_PERIOD_MS,
            sensor_errors: 0,
            fault: None,
        }
    }

    /// Handles `event` at `now_us` of a clock that never steps back, and sends what follows.
    pub fn on(&mut self, now_us: u64, event: Event<'_>, out: &mut impl Sink) {
        match event {
            Event::Tick => self.tick(now_us, out),
            Event::Received(mut bytes) => {
                while let Some(message) = self.decoder.pull(&mut bytes) {
                    self.hear(now_us, &message, out);
                }
            }
        }
    }

    fn tick(&mut self, now_us: u64, out: &mut impl Sink) {
        match self.phase {
            Phase::Greeting { next_hello_us } if now_us >= next_hello_us => {
                self.greet(now_us, out);
            }
            Phase::Streaming { heard_us, .. } if now_us >= heard_us + HOST_SILENCE_US => {
                self.greet(now_us, out);
            }
            Phase::Streaming {
                session,
                next_seq,
                next_sample_us,
                heard_us,
            } if now_us >= next_sample_us => {
                self.sample(now_us, next_seq, out);
                // Keep to the grid; after a hold-up leave out what was missed.
                let period_us = u64::from(self.period_ms) * 1000;
                let missed = (now_us - next_sample_us) / period_us;
                self.phase = Phase::Streaming {
                    session,
                    next_seq: next_seq.wrapping_add(1),
                    next_sample_us: next_sample_us + (missed + 1) * period_us,
                    heard_us,
                };
            }
            Phase::Greeting { .. } | Phase::Streaming { .. } => {}
        }
    }

    fn hear(&mut self, now_us: u64, message: &NodeDown, out: &mut impl Sink) {
        if let Phase::Streaming { heard_us, .. } = &mut self.phase {
            *heard_us = now_us;
        }
        match (self.phase, message) {
            // A host of another version: keep greeting, our version is in the greeting.
            (_, NodeDown::Welcome { proto_version, .. }) if *proto_version != PROTO_VERSION => {}
            // A repeat, because the host saw a greeting that crossed its first welcome.
            (
                Phase::Streaming { session, .. },
                NodeDown::Welcome {
                    session: theirs, ..
                },
            ) if session == *theirs => {}
            (_, NodeDown::Welcome { session, .. }) => {
                self.phase = Phase::Streaming {
                    session: *session,
                    next_seq: 0,
                    next_sample_us: now_us,
                    heard_us: now_us,
                };
            }
            (_, NodeDown::Config { period_ms }) => {
                self.period_ms = (*period_ms).clamp(MIN_PERIOD_MS, MAX_PERIOD_MS);
                if let Phase::Streaming { next_sample_us, .. } = &mut self.phase {
                    // Coming down from a long period must not wait for its end.
                    let latest = now_us + u64::from(self.period_ms) * 1000;
                    *next_sample_us = (*next_sample_us).min(latest);
                }
            }
            (
                Phase::Streaming { session, .. },
                NodeDown::Ping {
                    session: theirs,
                    nonce,
                },
            ) if session == *theirs => {
                let pong = Pong {
                    nonce: *nonce,
                    period_ms: self.period_ms,
                    bad_frames: self.decoder.bad_frames(),
                };
                send(&NodeUp::Pong(pong), out);
            }
            (_, NodeDown::Ping { .. }) => self.greet(now_us, out),
        }
    }

    fn greet(&mut self, now_us: u64, out: &mut impl Sink) {
        let hello = Hello {
            proto_version: PROTO_VERSION,
            uid: self.identity.uid,
            board: cut(self.identity.board),
            fw_version: cut(self.identity.fw_version),
            channels: S::CHANNELS.iter().map(|name| cut(name)).collect(),
        };
        // The line may have carried anything before this: close it off.
        out.send(&[0]);
        send(&NodeUp::Hello(hello), out);
        self.phase = Phase::Greeting {
            next_hello_us: now_us + HELLO_EVERY_US,
        };
    }

    fn sample(&mut self, now_us: u64, seq: u32, out: &mut impl Sink) {
        let mut values: Vec<f32, MAX_CHANNELS> = S::CHANNELS.iter().map(|_| f32::NAN).collect();
        let fault = self.sensor.read(&mut values).err();
        if fault.is_some() {
            self.sensor_errors = self.sensor_errors.saturating_add(1);
            values.fill(f32::NAN);
        }
        // A fault is told when it comes and when it goes, not at every sample.
        if fault != self.fault {
            self.fault = fault;
            let (level, text) = match fault {
                Some(fault) => (Level::Warn, fault.text()),
                None => (Level::Info, "sensor answers again"),
            };
            let text = cut(text);
            send(&NodeUp::Log(Log { level, text }), out);
        }
        let samples = Samples {
            seq,
            t_us: now_us,
            sensor_errors: self.sensor_errors,
            values,
        };
        send(&NodeUp::Samples(samples), out);
    }
}

fn send(message: &NodeUp, out: &mut impl Sink) {
    let mut buffer = [0; MAX_FRAME];
    // The bounds of the messages make every frame fit.
    if let Ok(frame) = encode(message, &mut buffer) {
        out.send(frame);
    }
}

/// As much of `text` as fits, in whole characters.
fn cut<const N: usize>(text: &str) -> String<N> {
    let mut short = String::new();
    for character in text.chars() {
        if short.push(character).is_err() {
            break;
        }
    }
    short
}
