//! What the agent persists, behind a journal trait.
