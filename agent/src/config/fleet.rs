//! Settings that only count in a fleet: link, updates and store.
//!
//! The defaults are those of the parts themselves; this file gives them names with units.

use drover_agent_core::{OutboxConfig, Timing};
use drover_agent_store::{OutboxQuota, SledOptions};
use serde::{Deserialize, Serialize};

use crate::link::LinkOptions;

/// How the agent talks to its fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// Time without traffic after which the broker is asked whether it lives.
    pub keepalive_secs: u64,
    /// Longest time for connecting.
    pub connect_timeout_secs: u64,
    /// First wait before a reconnect; it doubles.
    pub reconnect_base_millis: u64,
    /// Longest wait before a reconnect.
    pub reconnect_cap_millis: u64,
    /// Messages on their way to the broker at most.
    pub in_flight: u16,
}

/// How updates are fetched and reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Update {
    /// First wait for an answer of the server; it doubles.
    pub request_base_millis: u64,
    /// Longest wait for an answer of the server.
    pub request_cap_millis: u64,
    /// Wait before a candidate that failed is tried once more.
    pub attempt_millis: u64,
    /// Batches of records that wait for their acknowledgement at most.
    pub outbox_window: usize,
    /// First wait for an acknowledgement; it doubles.
    pub resend_base_millis: u64,
    /// Longest wait for an acknowledgement.
    pub resend_cap_millis: u64,
    /// Length of the windows over which the rate of a download is judged.
    pub rate_window_millis: u64,
    /// Chunks that must come in each window; a slower download pauses.
    pub least_chunks_per_window: u32,
    /// Longest time for all chunks of a bundle, before its download pauses.
    pub download_deadline_millis: u64,
    /// Memory that one loaded model may take; 0 means a quarter of the board's.
    pub model_memory_bytes: u64,
}

/// What is kept on the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Records that wait for the server at most; the oldest go first.
    pub outbox_max_records: u64,
    /// Their bytes at most.
    pub outbox_max_bytes: u64,
    /// Free bytes that records and bundles leave on the disk.
    pub min_free_bytes: u64,
    /// Page cache of the store.
    pub cache_bytes: u64,
    /// How often the store flushes by itself.
    pub flush_every_millis: u64,
}

impl Default for Link {
    fn default() -> Self {
        let options = LinkOptions::default();
        Self {
            keepalive_secs: options.keepalive_secs,
            connect_timeout_secs: options.connect_timeout_secs,
            reconnect_base_millis: options.reconnect_base_millis,
            reconnect_cap_millis: options.reconnect_cap_millis,
            in_flight: options.in_flight,
        }
    }
}

impl Default for Update {
    fn default() -> Self {
        let timing = Timing::default();
        let outbox = OutboxConfig::default();
        Self {
            request_base_millis: timing.request_base_ms,
            request_cap_millis: timing.request_cap_ms,
            attempt_millis: timing.attempt_ms,
            outbox_window: outbox.window,
            resend_base_millis: outbox.resend_base_ms,
            resend_cap_millis: outbox.resend_cap_ms,
            rate_window_millis: timing.rate_window_ms,
            least_chunks_per_window: timing.least_chunks_per_window,
            download_deadline_millis: timing.download_deadline_ms,
            model_memory_bytes: 0,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        let options = SledOptions::default();
        Self {
            outbox_max_records: options.quota.max_records,
            outbox_max_bytes: options.quota.max_bytes,
            min_free_bytes: options.min_free_bytes,
            cache_bytes: options.cache_bytes,
            flush_every_millis: options.flush_every_ms,
        }
    }
}

impl Link {
    /// As the link takes them.
    pub fn options(&self) -> LinkOptions {
        LinkOptions {
            keepalive_secs: self.keepalive_secs,
            connect_timeout_secs: self.connect_timeout_secs,
            reconnect_base_millis: self.reconnect_base_millis,
            reconnect_cap_millis: self.reconnect_cap_millis,
            in_flight: self.in_flight,
        }
    }
}

impl Update {
    /// As the update life cycle takes them.
    pub fn timing(&self) -> Timing {
        Timing {
            request_base_ms: self.request_base_millis,
            request_cap_ms: self.request_cap_millis,
            attempt_ms: self.attempt_millis,
            rate_window_ms: self.rate_window_millis,
            least_chunks_per_window: self.least_chunks_per_window,
            download_deadline_ms: self.download_deadline_millis,
        }
    }

    /// As the outbox takes them.
    pub fn outbox(&self) -> OutboxConfig {
        OutboxConfig {
            window: self.outbox_window,
            resend_base_ms: self.resend_base_millis,
            resend_cap_ms: self.resend_cap_millis,
        }
    }
}

impl Store {
    /// As the journal takes them.
    pub fn options(&self) -> SledOptions {
        SledOptions {
            quota: OutboxQuota {
                max_bytes: self.outbox_max_bytes,
                max_records: self.outbox_max_records,
            },
            min_free_bytes: self.min_free_bytes,
            cache_bytes: self.cache_bytes,
            flush_every_ms: self.flush_every_millis,
        }
    }
}
