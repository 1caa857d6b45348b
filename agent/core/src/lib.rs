//! Sans-IO state machine of the update life cycle and the outbox.
