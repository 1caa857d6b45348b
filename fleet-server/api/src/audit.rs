//! The audit log: entries chained by their hashes, the signed head, and how both are checked
//! away from the server.
//!
//! The hash of an entry is SHA-256 over [`DOMAIN`] and every field, each behind its length as
//! 64-bit little-endian number, the hash of the entry before included. A log that lost,
//! gained, swapped or changed an entry no longer fits together; one whose end is cut off no
//! longer fits its head, or an older copy.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// What every hash begins with.
pub const DOMAIN: &[u8] = b"drover/audit/v1";
/// What the first entry has for [`AuditEntry::previous`].
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One change, and who made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// From 1, without gaps.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Which account.
    pub who: String,
    /// Role that it had.
    pub role: String,
    /// By which means, such as `token x7…`.
    pub how: String,
    /// What was done, such as `rollout.create`.
    pub what: String,
    /// To what.
    pub object: String,
    /// Fields that matter, before or after, as JSON text; empty for none.
    pub detail: String,
    /// Why, in the words of whoever did it; empty for none.
    pub reason: String,
    /// Hash of the entry before; [`GENESIS`] for the first.
    pub previous: String,
    /// Hash of this entry.
    pub hash: String,
}

impl AuditEntry {
    /// The hash that this entry has to have.
    pub fn compute_hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(DOMAIN);
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(&self.number.to_le_bytes());
        field(&self.unix_ms.to_le_bytes());
        for text in [
            &self.who,
            &self.role,
            &self.how,
            &self.what,
            &self.object,
            &self.detail,
            &self.reason,
            &self.previous,
        ] {
            field(text.as_bytes());
        }
        HEXLOWER.encode(&hasher.finalize())
    }
}

/// The newest entry, signed by the fleet key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditHead {
    /// Which fleet.
    pub fleet: String,
    /// Number of the newest entry; 0 when there is none.
    pub number: u64,
    /// Its hash; [`GENESIS`] when there is none.
    pub hash: String,
    /// When this was signed, in milliseconds since 1970.
    pub unix_ms: u64,
    /// Signed envelope around [`Self::statement`], hexadecimal.
    pub envelope: String,
}

impl AuditHead {
    /// The signed text.
    pub fn statement(&self) -> String {
        let Self {
            fleet,
            number,
            hash,
            unix_ms,
            ..
        } = self;
        format!(
            "drover audit head v1\nfleet {fleet}\nnumber {number}\nhash {hash}\nunix_ms {unix_ms}\n"
        )
    }
}

/// Where a log does not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// An entry is missing, was inserted or was moved.
    #[error("entry {got} stands where entry {wanted} belongs: one is missing, inserted or moved")]
    Number {
        /// Number that belongs there.
        wanted: u64,
        /// Number that stands there.
        got: u64,
    },
    /// An entry is not what it was when it was written.
    #[error("entry {number} was changed: its content does not have its hash")]
    Changed {
        /// Which one.
        number: u64,
    },
    /// An entry does not follow the one before it.
    #[error("entry {number} does not follow the entry before it: one of them was replaced")]
    Unchained {
        /// Which one.
        number: u64,
    },
    /// The entries end before the head, or go on after it.
    #[error("the entries end at {last}, the head names {head}: the end was cut off or added to")]
    End {
        /// Last entry there is.
        last: u64,
        /// Entry that the head names.
        head: u64,
    },
    /// The last entry is another than the one that the head names.
    #[error("entry {number} is not the one that the head names: the log was written anew")]
    Head {
        /// Which one.
        number: u64,
    },
    /// An older copy knows entries that this one lacks.
    #[error(
        "the older copy goes up to entry {older}, this one ends at {last}: its end was cut off"
    )]
    Shorter {
        /// Last entry of the older copy.
        older: u64,
        /// Last entry of this one.
        last: u64,
    },
    /// An older copy has another entry.
    #[error("entry {number} is another one than in the older copy: the log was written anew")]
    Rewritten {
        /// Which one.
        number: u64,
    },
}

/// Checks entries from the first on, one at a time.
#[derive(Clone, Debug)]
pub struct AuditChain {
    number: u64,
    hash: String,
}

impl Default for AuditChain {
    fn default() -> Self {
        Self {
            number: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

impl AuditChain {
    /// Takes the next entry.
    ///
    /// # Errors
    /// The entry does not fit; nothing is taken.
    pub fn push(&mut self, entry: &AuditEntry) -> Result<(), AuditError> {
        let (wanted, got) = (self.number.saturating_add(1), entry.number);
        if got != wanted {
            return Err(AuditError::Number { wanted, got });
        }
        if entry.compute_hash() != entry.hash {
            return Err(AuditError::Changed { number: got });
        }
        if entry.previous != self.hash {
            return Err(AuditError::Unchained { number: got });
        }
        self.number = got;
        self.hash.clone_from(&entry.hash);
        Ok(())
    }

    /// Number of the last entry taken; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Compares the end with a head; its signature is somebody else's to check.
    ///
    /// # Errors
    /// The head names another end.
    pub fn check_head(&self, head: &AuditHead) -> Result<(), AuditError> {
        if head.number != self.number {
            return Err(AuditError::End {
                last: self.number,
                head: head.number,
            });
        }
        if head.hash != self.hash {
            let number = self.number;
            return Err(AuditError::Head { number });
        }
        Ok(())
    }
}

/// Checks that `entries` begin with all of `older`, an earlier copy of the same log.
///
/// # Errors
/// The first entry that the copies do not share.
pub fn check_continues(entries: &[AuditEntry], older: &[AuditEntry]) -> Result<(), AuditError> {
    for (new, old) in entries.iter().zip(older) {
        if new.hash != old.hash {
            return Err(AuditError::Rewritten { number: old.number });
        }
    }
    if entries.len() < older.len() {
        return Err(AuditError::Shorter {
            older: older.last().map_or(0, |e| e.number),
            last: entries.last().map_or(0, |e| e.number),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: u64, reason: &str) -> Vec<AuditEntry> {
        let mut log: Vec<AuditEntry> = Vec::new();
        for number in 1..=entries {
            let mut entry = AuditEntry {
                number,
                unix_ms: 1_700_000_000_000 + number,
                who: "alice".into(),
                role: "operator".into(),
                how: "token t".into(),
                what: "device.approve".into(),
                object: format!("d{number}"),
                detail: String::new(),
                reason: reason.into(),
                previous: log.last().map_or(GENESIS.into(), |e| e.hash.clone()),
                hash: String::new(),
            };
            entry.hash = entry.compute_hash();
            log.push(entry);
        }
        log
    }

    fn check(log: &[AuditEntry]) -> Result<AuditChain, AuditError> {
        let mut chain = AuditChain::default();
        log.iter().try_for_each(|e| chain.push(e)).map(|()| chain)
    }

    #[test]
    fn the_hash_of_an_entry_never_changes() {
        assert_eq!(
            log(1, "why")[0].hash,
            "d02b82508ffc196a2fff9a6fbcf5165652711ae80e3df1ba0f435fa0208da6ef"
        );
    }

    #[test]
    fn every_way_to_tamper_names_the_first_entry_that_is_wrong() {
        let whole = log(5, "");
        assert_eq!(check(&whole).unwrap().number(), 5);

        let mut edited = whole.clone();
        edited[2].reason = "another".into();
        assert_eq!(
            check(&edited).unwrap_err(),
            AuditError::Changed { number: 3 }
        );
        edited[2].hash = edited[2].compute_hash();
        let unchained = AuditError::Unchained { number: 4 };
        assert_eq!(check(&edited).unwrap_err(), unchained);

        let mut removed = whole.clone();
        removed.remove(1);
        let wrong = AuditError::Number { wanted: 2, got: 3 };
        assert_eq!(check(&removed).unwrap_err(), wrong);

        let mut swapped = whole.clone();
        swapped.swap(1, 3);
        let wrong = AuditError::Number { wanted: 2, got: 4 };
        assert_eq!(check(&swapped).unwrap_err(), wrong);

        let mut inserted = whole.clone();
        inserted.insert(2, whole[1].clone());
        let wrong = AuditError::Number { wanted: 3, got: 2 };
        assert_eq!(check(&inserted).unwrap_err(), wrong);
    }

    #[test]
    fn a_cut_off_end_shows_against_the_head_and_an_older_copy() {
        let whole = log(5, "");
        let head = AuditHead {
            fleet: "test".into(),
            number: 5,
            hash: whole[4].hash.clone(),
            unix_ms: 1,
            envelope: String::new(),
        };
        check(&whole).unwrap().check_head(&head).unwrap();
        let cut = check(&whole[..3]).unwrap().check_head(&head);
        assert_eq!(cut.unwrap_err(), AuditError::End { last: 3, head: 5 });
        let anew = check(&log(5, "anew")).unwrap().check_head(&head);
        assert_eq!(anew.unwrap_err(), AuditError::Head { number: 5 });

        check_continues(&whole, &whole[..3]).unwrap();
        let shorter = AuditError::Shorter { older: 5, last: 3 };
        assert_eq!(check_continues(&whole[..3], &whole), Err(shorter));
        let rewritten = AuditError::Rewritten { number: 1 };
        assert_eq!(check_continues(&log(6, "anew"), &whole), Err(rewritten));
    }

    #[test]
    fn no_field_can_lend_bytes_to_its_neighbour() {
        let entry = log(1, "b").remove(0);
        let mut moved = entry.clone();
        moved.detail = "b".into();
        moved.reason = String::new();
        assert_ne!(entry.compute_hash(), moved.compute_hash());
    }
}
