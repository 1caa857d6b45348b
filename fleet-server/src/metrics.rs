//! Counters of this process, in Prometheus' text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What this process has done since it started.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Messages from devices.
    pub(crate) up_messages: Counter,
    /// Messages whose signature or sender was wrong.
    pub(crate) up_refused: Counter,
    /// Messages dropped because too many waited.
    pub(crate) up_dropped: Counter,
    /// Messages from devices that were played again.
    pub(crate) replays: Counter,
    /// Records stored.
    pub(crate) records: Counter,
    /// Records that were there already.
    pub(crate) duplicates: Counter,
    /// Messages to devices handed to the broker.
    pub(crate) down_messages: Counter,
    /// Chunks handed to the broker.
    pub(crate) chunks: Counter,
    /// Bytes of those chunks.
    pub(crate) chunk_bytes: Counter,
    /// Connections made to the broker.
    pub(crate) connects: Counter,
    /// Sessions of devices that the front let in.
    pub(crate) sessions: Counter,
    /// Connections that the front refused, or that were too slow.
    pub(crate) front_refused: Counter,
    /// Connections closed at once because there were too many.
    pub(crate) over_cap: Counter,
}

/// One figure that is read when it is asked for.
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) value: u64,
}

impl Metrics {
    /// All counters and the gauges given.
    pub(crate) fn render(&self, gauges: &[Gauge]) -> String {
        let counters = [
            (
                "drover_up_messages_total",
                "Messages from devices.",
                &self.up_messages,
            ),
            (
                "drover_up_refused_total",
                "Messages from devices refused.",
                &self.up_refused,
            ),
            (
                "drover_up_dropped_total",
                "Messages from devices dropped.",
                &self.up_dropped,
            ),
            (
                "drover_replays_total",
                "Messages from devices played again.",
                &self.replays,
            ),
            ("drover_records_total", "Records stored.", &self.records),
            (
                "drover_duplicates_total",
                "Records that came again.",
                &self.duplicates,
            ),
            (
                "drover_down_messages_total",
                "Messages sent to devices.",
                &self.down_messages,
            ),
            ("drover_chunks_total", "Bundle chunks sent.", &self.chunks),
            (
                "drover_chunk_bytes_total",
                "Bytes of bundle chunks sent.",
                &self.chunk_bytes,
            ),
            (
                "drover_broker_connects_total",
                "Connections to the broker.",
                &self.connects,
            ),
            (
                "drover_sessions_total",
                "Sessions of devices let in.",
                &self.sessions,
            ),
            (
                "drover_front_refused_total",
                "Connections of devices refused.",
                &self.front_refused,
            ),
            (
                "drover_over_cap_total",
                "Connections closed because there were too many.",
                &self.over_cap,
            ),
        ];
        let mut text = String::new();
        for (name, help, counter) in counters {
            line(&mut text, name, help, "counter", counter.get());
        }
        for gauge in gauges {
            line(&mut text, gauge.name, gauge.help, "gauge", gauge.value);
        }
        text
    }
}

fn line(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    // Writing into a string cannot fail.
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_the_form_that_scrapers_read() {
        let metrics = Metrics::default();
        metrics.chunks.add(3);
        let text = metrics.render(&[Gauge {
            name: "drover_devices",
            help: "Devices.",
            value: 7,
        }]);
        assert!(text.contains("# TYPE drover_chunks_total counter\ndrover_chunks_total 3\n"));
        assert!(text.ends_with("# TYPE drover_devices gauge\ndrover_devices 7\n"));
    }
}
