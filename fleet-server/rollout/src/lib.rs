//! Sans-IO rollout planner.
