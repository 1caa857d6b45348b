//! Which devices run a component: the question after an advisory.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Component, Running};

/// A device that runs a component now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AffectedDevice {
    /// Identity of the device.
    pub device: String,
    /// Name of the device, for people; may be empty.
    pub name: String,
    /// What it runs.
    pub component: Component,
    /// The bundle that it is part of; absent for the agent itself.
    pub bundle: Option<Running>,
}

/// A device of which nobody can say it: its bundle names no components, or is none of the
/// releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnknownDevice {
    /// Identity of the device.
    pub device: String,
    /// Name of the device, for people; may be empty.
    pub name: String,
    /// What it runs.
    pub bundle: Running,
}

/// Which devices run a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Affected {
    /// Those that do; a device may be there more than once, with several components.
    pub items: Vec<AffectedDevice>,
    /// Those of which it is not known.
    pub unknown: Vec<UnknownDevice>,
}
