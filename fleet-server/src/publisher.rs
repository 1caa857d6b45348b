//! Sends the chunks of bundles: each once for all devices that ask for it.
//!
//! One task per bundle unites what devices miss, sends it in order with a pause between
//! chunks, and takes up new requests as it goes. A chunk that was sent a moment ago, after the
//! device had begun to listen, is taken to be under way and is not sent again for it; if it was
//! lost, the device's next request comes later. A task only ever sends what was asked for, so
//! it ends by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use drover_trust::DeviceId;
use drover_wire::bitmap::Bitmap;
use drover_wire::chunk::Chunk;
use drover_wire::topic;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::confidential::Cipher;
use crate::data_dir::DataDir;
use crate::link::Link;
use crate::metrics::Metrics;
use crate::state::Core;
use crate::store::{ReleaseRow, Store};
use crate::{ServerError, clock};

/// Requests that wait for one bundle at most; devices repeat theirs.
const QUEUE: usize = 1024;

/// Since when a device has listened to a bundle.
type Listening = Arc<Mutex<HashMap<(String, [u8; 32]), Instant>>>;

/// One device's request.
struct Request {
    device: String,
    missing: Bitmap,
}

/// Each bundle's task, and what every device has asked for.
#[derive(Default)]
pub(crate) struct Publishers {
    senders: Mutex<HashMap<[u8; 32], mpsc::Sender<Request>>>,
    tasks: Mutex<JoinSet<()>>,
    listening: Listening,
}

impl Publishers {
    /// Takes up what a device misses of a bundle.
    pub(crate) fn request(
        &self,
        core: &Core,
        release: &ReleaseRow,
        device: &DeviceId,
        missing: &Bitmap,
    ) {
        let request = Request {
            device: device.to_string(),
            missing: missing.clone(),
        };
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = senders.entry(release.digest).or_insert_with(|| {
            let (sender, requests) = mpsc::channel(QUEUE);
            let task = Task::new(core, release.clone(), self.listening.clone());
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.spawn(task.run(requests));
            sender
        });
        if sender.try_send(request).is_err() {
            tracing::warn!(%device, "request for chunks dropped: too many wait");
        }
    }

    /// A device has connected anew and listens to nothing yet.
    pub(crate) fn forget(&self, device: &DeviceId) {
        let mut listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listening.retain(|(d, _), _| d != device.as_str());
    }

    /// Ends all tasks and waits until they are gone.
    pub(crate) async fn close(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }
}

struct Task {
    release: ReleaseRow,
    cipher: Option<Arc<Cipher>>,
    data: Arc<DataDir>,
    store: Store,
    link: Link,
    metrics: Arc<Metrics>,
    listening: Listening,
    gap: Duration,
    coalesce: Duration,
    repeat: Duration,
    schedule: Schedule,
    sent_bytes: u64,
}

impl Task {
    fn new(core: &Core, release: ReleaseRow, listening: Listening) -> Self {
        Self {
            schedule: Schedule::new(release.summary.chunks),
            release,
            cipher: None,
            data: core.data.clone(),
            store: core.store.clone(),
            link: core.link.clone(),
            metrics: core.metrics.clone(),
            listening,
            gap: Duration::from_millis(core.config.chunk_gap_ms),
            coalesce: Duration::from_millis(core.config.coalesce_ms),
            repeat: Duration::from_millis(core.config.chunk_repeat_ms),
            sent_bytes: 0,
        }
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            self.take(&first);
            tokio::time::sleep(self.coalesce).await;
            loop {
                while let Ok(request) = requests.try_recv() {
                    self.take(&request);
                }
                let Some(index) = self.schedule.next() else {
                    break;
                };
                if !self.publish(index).await {
                    // Without a connection nobody hears; devices ask again when they do.
                    self.schedule.clear();
                    break;
                }
                tokio::time::sleep(self.gap).await;
            }
            self.count().await;
        }
    }

    fn take(&mut self, request: &Request) {
        let now = clock::monotonic();
        let since = {
            let mut listening = self
                .listening
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let key = (request.device.clone(), self.release.digest);
            *listening.entry(key).or_insert(now)
        };
        self.schedule
            .want(&request.missing, since, now, self.repeat);
    }

    async fn publish(&mut self, index: u32) -> bool {
        let (offset, len) = self.place(index);
        let (data, digest) = (self.data.clone(), self.release.digest);
        let (confidential, cipher) = (self.release.summary.confidential, self.cipher.clone());
        let read = tokio::task::spawn_blocking(move || {
            let chunk = data.read_bundle(&digest, offset, len)?;
            if !confidential {
                return Ok((chunk, None));
            }
            let cipher = match cipher {
                Some(cipher) => cipher,
                None => Arc::new(Cipher::of(&data, digest)?),
            };
            Ok((cipher.seal(index, chunk)?, Some(cipher)))
        })
        .await;
        let bytes = match read {
            Ok(Ok((bytes, cipher))) => {
                self.cipher = cipher;
                bytes
            }
            Ok(Err::<_, ServerError>(error)) => {
                tracing::error!(%error, "a published bundle cannot be read");
                return false;
            }
            Err(_) => return false,
        };
        let chunk = Chunk {
            index,
            bytes: &bytes,
        };
        let sent = self
            .link
            .publish(topic::bundle(&self.release.digest), chunk.encode())
            .await;
        if sent {
            self.schedule.sent(index, clock::monotonic());
            self.sent_bytes += bytes.len() as u64;
            self.metrics.chunks.add(1);
            self.metrics.chunk_bytes.add(bytes.len() as u64);
        }
        sent
    }

    /// Offset in the container and length of a chunk; the last one is shorter.
    fn place(&self, index: u32) -> (u64, usize) {
        let size = u64::from(self.release.chunk_bytes);
        let start = u64::from(index) * size;
        let len = size.min(self.release.summary.total_bytes.saturating_sub(start));
        let len = usize::try_from(len).unwrap_or(0);
        (self.release.payload_offset + start, len)
    }

    async fn count(&mut self) {
        let bytes = std::mem::take(&mut self.sent_bytes);
        if let Err(error) = self.store.add_sent_bytes(&self.release.digest, bytes).await {
            tracing::warn!(%error, "bytes sent could not be counted");
        }
    }
}

/// Which chunks are to be sent, in which order.
struct Schedule {
    wanted: BTreeSet<u32>,
    sent: Vec<Option<Instant>>,
    cursor: u32,
}

impl Schedule {
    fn new(chunks: u32) -> Self {
        Self {
            wanted: BTreeSet::new(),
            sent: vec![None; chunks as usize],
            cursor: 0,
        }
    }

    /// Adds what a device misses that has listened `since`, except what was sent to it less
    /// than `repeat` ago.
    fn want(&mut self, missing: &Bitmap, since: Instant, now: Instant, repeat: Duration) {
        for index in missing.iter() {
            let Some(sent) = self.sent.get(index as usize) else {
                return;
            };
            let under_way = sent.is_some_and(|at| at >= since && now.duration_since(at) < repeat);
            if !under_way {
                self.wanted.insert(index);
            }
        }
    }

    /// The next chunk in a round: requests that come late join where the round is.
    fn next(&mut self) -> Option<u32> {
        let ahead = self.wanted.range(self.cursor..).next().copied();
        let index = ahead.or_else(|| self.wanted.first().copied())?;
        self.wanted.remove(&index);
        self.cursor = index + 1;
        Some(index)
    }

    fn sent(&mut self, index: u32, at: Instant) {
        if let Some(sent) = self.sent.get_mut(index as usize) {
            *sent = Some(at);
        }
    }

    fn clear(&mut self) {
        self.wanted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPEAT: Duration = Duration::from_secs(2);

    fn round(schedule: &mut Schedule, at: Instant) -> Vec<u32> {
        let mut sent = Vec::new();
        while let Some(index) = schedule.next() {
            schedule.sent(index, at);
            sent.push(index);
        }
        sent
    }

    #[test]
    fn devices_that_ask_together_get_each_chunk_once() {
        let start = clock::monotonic();
        let mut schedule = Schedule::new(4);
        for _ in 0..3 {
            schedule.want(&Bitmap::full(4), start, start, REPEAT);
        }
        assert_eq!(round(&mut schedule, start), [0, 1, 2, 3]);
        // The same devices ask again too early: everything is under way.
        schedule.want(&Bitmap::full(4), start, start, REPEAT);
        assert_eq!(round(&mut schedule, start), [0u32; 0]);
        // Later it was lost.
        let later = start + REPEAT;
        let mut missing = Bitmap::empty(4);
        missing.insert(2);
        schedule.want(&missing, start, later, REPEAT);
        assert_eq!(round(&mut schedule, later), [2]);
    }

    #[test]
    fn a_device_that_has_just_begun_to_listen_waits_for_nothing() {
        let start = clock::monotonic();
        let mut schedule = Schedule::new(2);
        schedule.want(&Bitmap::full(2), start, start, REPEAT);
        round(&mut schedule, start);
        let joined = start + Duration::from_millis(10);
        schedule.want(&Bitmap::full(2), joined, joined, REPEAT);
        assert_eq!(round(&mut schedule, joined), [0, 1]);
    }

    #[test]
    fn a_late_request_joins_the_round_and_strangers_are_ignored() {
        let start = clock::monotonic();
        let mut schedule = Schedule::new(4);
        schedule.want(&Bitmap::full(4), start, start, REPEAT);
        assert_eq!(schedule.next(), Some(0));
        schedule.sent(0, start);
        assert_eq!(schedule.next(), Some(1));
        schedule.sent(1, start);
        let joined = start + Duration::from_millis(1);
        schedule.want(&Bitmap::full(9), joined, joined, REPEAT);
        assert_eq!(round(&mut schedule, joined), [2, 3, 0, 1]);
        assert!(schedule.next().is_none());
    }
}
