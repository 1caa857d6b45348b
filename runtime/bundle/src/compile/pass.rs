//! The passes that bring a graph into its canonical form, in their order.
//!
//! A pass does one thing, keeps what the graph computes, and says in its file what it
//! matches, what it makes of it and why that is right; its tests show a graph before and
//! after. Canonical means: operator set 13 or later, a batch of one, no quantised operator of
//! its own kind but QuantizeLinear and DequantizeLinear (and the integer operators of dynamic
//! quantisation), constant weights under one DequantizeLinear, nothing that is not read.

mod batch;
mod clean;
mod fold;
mod hoist;
mod operator;
mod shape;
mod upgrade;

use super::error::CompileError;
use super::graph::Graph;

/// One rewriting step.
#[derive(Clone, Copy)]
pub struct Pass {
    /// What snapshots and notes call it.
    pub name: &'static str,
    /// Rewrites the graph and gives the number of places it changed.
    pub run: fn(&mut Graph) -> Result<usize, CompileError>,
}

/// Every pass, in the order in which they run.
pub const PASSES: &[Pass] = &[
    Pass {
        name: "upgrade",
        run: upgrade::run,
    },
    Pass {
        name: "batch",
        run: batch::run,
    },
    Pass {
        name: "fold",
        run: fold::run,
    },
    Pass {
        name: "operator",
        run: operator::run,
    },
    Pass {
        name: "hoist",
        run: hoist::run,
    },
    Pass {
        name: "clean",
        run: clean::run,
    },
    // What is read next may rely on every shape that follows from the inputs.
    Pass {
        name: "shape",
        run: shape::run,
    },
];
