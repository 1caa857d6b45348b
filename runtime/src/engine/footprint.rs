//! What a loaded model holds in memory and how much it computes, as tract plans it.
//!
//! Figures for people and reports: a model that tract cannot describe has gaps here and runs
//! all the same.

use std::collections::BTreeMap;

use serde::Serialize;
use tract_onnx::prelude::{TypedFact, TypedModel, TypedRunnableModel};
use tract_onnx::tract_core::ops::Cost;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::konst::Const;

/// What a loaded model holds in memory and how much it computes in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Most bytes of values that are alive at once in a run, weights not counted; absent where
    /// the engine does not know the size of one.
    pub peak_bytes: Option<u64>,
    /// Bytes of constants in memory, in the types that the engine computes with and before it
    /// packs them for its kernels.
    pub weight_memory_bytes: u64,
    /// Multiply-accumulates of one run.
    pub macs: u64,
    /// By kind of operator, the one with most multiply-accumulates first.
    pub operators: Vec<OperatorCost>,
}

/// All operators of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorCost {
    /// The engine's name of the operator.
    pub operator: String,
    /// How many there are.
    pub nodes: usize,
    /// Multiply-accumulates of them all.
    pub macs: u64,
}

impl Footprint {
    /// Counts before operators are fused, while they still have names that people know.
    pub(super) fn of_operators(model: &TypedModel) -> Self {
        let decluttered = model.clone().into_decluttered();
        let model = decluttered.as_ref().unwrap_or(model);
        let constants = model.nodes().iter();
        let constants = constants.filter_map(|n| n.op_as::<Const>());
        let plain = constants.filter(|c| c.val().is_plain());
        let weight_memory_bytes = plain.map(|c| c.val().as_bytes().len() as u64).sum();
        let mut kinds: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for node in model.nodes() {
            let name = node.op.name().into_owned();
            if matches!(name.as_str(), "Const" | "Source") {
                continue;
            }
            // tract counts one for each element of these too, which multiply nothing up.
            let elementwise = node.op_is::<TypedBinOp>() || node.op_is::<ElementWiseOp>();
            let facts = model.node_input_facts(node.id);
            let facts: Vec<&TypedFact> = facts.map_or_else(|_| Vec::new(), |f| f.to_vec());
            let costs = node.op.cost(&facts).unwrap_or_default();
            let fused = costs
                .iter()
                .filter(|(kind, _)| matches!(kind, Cost::FMA(_)) && !elementwise);
            let macs = fused.filter_map(|(_, n)| u64::try_from(n.as_i64()?).ok());
            let entry = kinds.entry(name).or_default();
            entry.0 += 1;
            entry.1 += macs.sum::<u64>();
        }
        let mut operators: Vec<OperatorCost> = kinds
            .into_iter()
            .map(|(operator, (nodes, macs))| OperatorCost {
                operator,
                nodes,
                macs,
            })
            .collect();
        operators.sort_by_key(|o| std::cmp::Reverse((o.macs, o.nodes)));
        Self {
            macs: operators.iter().map(|o| o.macs).sum(),
            operators,
            weight_memory_bytes,
            ..Self::default()
        }
    }

    /// Adds what the plan holds.
    pub(super) fn with_memory(self, plan: &TypedRunnableModel) -> Self {
        let model = plan.model();
        let steps =
            model.eval_tmp_memory_usage(plan.order_without_consts(), |node| !node.op_is::<Const>());
        let peak = steps.ok().and_then(|steps| {
            let bytes = steps.iter().map(|(_, n)| n.as_i64());
            bytes.collect::<Option<Vec<_>>>()?.into_iter().max()
        });
        Self {
            peak_bytes: peak.and_then(|n| u64::try_from(n).ok()),
            ..self
        }
    }
}
