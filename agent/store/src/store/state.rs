//! State cells: each lives twice, in the engine and in a file of its own.
//!
//! Both copies carry a generation; the newest whole one counts. The file is replaced by temporary,
//! sync, rename, sync of the folder; the engine's copy by put and flush. A power cut leaves each
//! copy old or new, and a damaged engine leaves the file. A save succeeds once one copy is durable,
//! because a device with a damaged engine must still be able to commit and to roll back.

use super::{Kind, Store, check_size};
use crate::envelope::{self, Damage};
use crate::key::{BOOT_CELL, state_key};
use crate::{KvOp, Medium, Result, StoreError};

/// Largest state cell. Cells are decisions, not data.
const STATE_MAX: u64 = 1 << 20;
pub(super) const STATE_DIR: &str = "state";

/// One whole copy of a cell.
struct Copy {
    generation: u64,
    payload: Vec<u8>,
}

impl<M: Medium> Store<M> {
    pub(super) fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.newest_copy(name)?.map(|copy| copy.payload))
    }

    pub(super) fn save_cell(&mut self, name: &str, payload: &[u8]) -> Result<()> {
        check_size("state cell", payload.len(), STATE_MAX)?;
        let newest = self.newest_copy(name)?;
        // At the largest number, which only a tampered copy holds, both are written over.
        let generation = newest.map_or(0, |copy| copy.generation).saturating_add(1);
        let body = [&generation.to_le_bytes(), payload].concat();
        let key = state_key(name);
        let sealed = envelope::seal(&key, &body);

        let file = self.replace_file(STATE_DIR, name, &sealed);
        let engine = self
            .medium
            .apply(vec![KvOp::Put(key, sealed)])
            .and_then(|()| self.medium.flush());
        match (file, engine) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(error), Err(_)) => Err(error),
            (Err(StoreError::Cut), _) | (_, Err(StoreError::Cut)) => Err(StoreError::Cut),
            (Ok(()), Err(_)) | (Err(_), Ok(())) => {
                self.note(|salvage| salvage.single_copy_saves += 1);
                Ok(())
            }
        }
    }

    pub(super) fn count_boot(&mut self) -> Result<u64> {
        let cell = self.load_cell(BOOT_CELL)?;
        let counted = cell
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes);
        // A lost counter must not lead to keys that were used before.
        let seen = self.newest.map_or(0, |key| key.boot);
        let boot = counted.max(seen).saturating_add(1);
        self.save_cell(BOOT_CELL, &boot.to_le_bytes())?;
        Ok(boot)
    }

    fn newest_copy(&self, name: &str) -> Result<Option<Copy>> {
        let key = state_key(name);
        let path = format!("{STATE_DIR}/{name}");
        let mut newest: Option<Copy> = None;
        let mut unreadable = None;
        for (place, sealed) in [
            (path.as_bytes(), self.medium.read_file(&path)),
            (&key[..], self.medium.get(&key)),
        ] {
            match sealed {
                Ok(Some(sealed)) => {
                    let copy = self.read_copy(place, &key, &sealed);
                    let known = newest.as_ref().map_or(0, |copy| copy.generation);
                    newest = copy.filter(|copy| copy.generation > known).or(newest);
                }
                Ok(None) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        match (newest, unreadable) {
            (Some(copy), _) => Ok(Some(copy)),
            // "None" would say that it was never saved.
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn read_copy(&self, place: &[u8], context: &[u8], sealed: &[u8]) -> Option<Copy> {
        let split = envelope::unseal(context, sealed).and_then(|body| {
            body.split_first_chunk::<8>()
                .map(|(generation, payload)| Copy {
                    generation: u64::from_le_bytes(*generation),
                    payload: payload.to_vec(),
                })
                .ok_or(Damage::Corrupt)
        });
        split
            .map_err(|damage| self.damaged(Kind::State, place, damage))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Journal as _, MemJournal, OutboxQuota};

    #[test]
    fn a_copy_of_the_largest_generation_is_written_over() {
        let mut journal = MemJournal::new(OutboxQuota::default());
        for (name, payload) in [("ota", &b"forged"[..]), (BOOT_CELL, &[0xff; 8])] {
            let key = state_key(name);
            let body = [&u64::MAX.to_le_bytes(), payload].concat();
            let put = KvOp::Put(key.clone(), envelope::seal(&key, &body));
            journal.medium_mut().apply(vec![put]).unwrap();
        }
        assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"forged");
        journal.save_state("ota", b"ours").unwrap();
        assert_eq!(journal.load_state("ota").unwrap().unwrap(), b"ours");
        assert_eq!(journal.begin_boot().unwrap(), u64::MAX);
        journal.append(u64::MAX, u64::MAX, b"record").unwrap();
        assert_eq!(journal.oldest(1, 100, None).unwrap().len(), 1);
    }
}
