//! Which devices are connected, so that one can be cut off at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Sessions that live now, by device. A device has two for as long as the broker needs to end
/// the older one.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    live: Mutex<HashMap<String, HashMap<u64, Arc<Notify>>>>,
}

/// One session; leaves the list when it is dropped.
pub(super) struct Session {
    all: Sessions,
    device: String,
    number: u64,
    end: Arc<Notify>,
}

impl Sessions {
    pub(super) fn enter(&self, device: &str) -> Session {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let end = Arc::new(Notify::new());
        self.live()
            .entry(device.to_owned())
            .or_default()
            .insert(number, end.clone());
        Session {
            all: self.clone(),
            device: device.to_owned(),
            number,
            end,
        }
    }

    /// Ends all sessions of a device; gives how many there were.
    pub(crate) fn cut(&self, device: &str) -> usize {
        let live = self.live();
        let Some(sessions) = live.get(device) else {
            return 0;
        };
        sessions.values().for_each(|end| end.notify_one());
        sessions.len()
    }

    /// Ends all sessions of all devices.
    pub(super) fn cut_all(&self) {
        for sessions in self.live().values() {
            sessions.values().for_each(|end| end.notify_one());
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.live().values().map(HashMap::len).sum()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, HashMap<u64, Arc<Notify>>>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Waits until somebody cuts this session.
    pub(super) async fn cut(&self) {
        self.end.notified().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut live = self.all.live();
        if let Some(sessions) = live.get_mut(&self.device) {
            sessions.remove(&self.number);
            if sessions.is_empty() {
                live.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_reaches_every_session_of_one_device_even_before_it_listens() {
        let sessions = Sessions::default();
        let (first, second) = (sessions.enter("a"), sessions.enter("a"));
        let other = sessions.enter("b");
        assert_eq!((sessions.cut("a"), sessions.cut("c")), (2, 0));
        first.cut().await;
        second.cut().await;
        drop((first, second));
        assert_eq!(sessions.count(), 1);
        drop(other);
        assert_eq!(sessions.count(), 0);
    }
}
