//! Sans-IO rollout planner: fleet view + policy + now → actions.
//!
//! [`plan`] looks at one rollout and says what to do next; the caller performs the actions,
//! stores their outcome and asks again until there are none. [`Progress::on_report`] folds a
//! device's report into what is known. Nothing here reads clocks, stores or networks.

pub mod plan;
pub mod policy;
pub mod progress;
pub mod radius;
pub mod strategy;

pub use plan::{Action, Member, Phase, View, plan};
pub use policy::{Policy, PolicyError};
pub use progress::{Progress, Report};
pub use radius::{Radius, RadiusError};
pub use strategy::{Stage, Strategy, StrategyError};
