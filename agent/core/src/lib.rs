//! The update life cycle of one device and its outbox, without input or output.
//!
//! [`Machine`] and [`Outbox`] take events and emit effects through a context; they own no
//! clock, thread, file or socket, so that tests cut the power between any two steps and the
//! simulator runs thousands of them. The driver (`drover-agent`) keeps one contract: after
//! each event it persists [`Machine::take_dirty`] before it performs the first effect. Then a
//! power cut at any point leaves a durable state from which [`Event::Resumed`] goes on:
//! what was committed runs, what was under way is taken up again or given up.

mod backoff;
mod durable;
mod effect;
mod event;
mod inbound;
mod machine;
mod outbox;
mod time;

pub use durable::{Candidate, Durable, DurableError, Failure, Progress, Quarantine, Slot};
pub use effect::{Ctx, Effect};
pub use event::{Event, Stored};
pub use inbound::{InboundError, VerifiedDown};
pub use machine::{Config, Counters, Machine, Platform, Timing};
pub use outbox::{Key, Outbox, OutboxConfig, OutboxEffect, OutboxEvent};
