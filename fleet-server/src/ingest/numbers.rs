//! Which messages are new, which are replays, and when two devices share one identity.
//!
//! Each start of an agent draws an instance and raises its boot; within it a counter grows. A
//! message is new when its number is. An instance that says hello after a newer one has spoken,
//! or that shares its boot with another, runs on a second machine: the key was copied. What
//! merely comes late from the instance before was under way when the agent ended.

use std::collections::HashMap;

use drover_trust::mutation::{Check, is_disabled};
use drover_wire::message::{Numbered, Up};

use crate::store::Numbers;

/// What the number of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing like it was accepted before.
    New,
    /// It was accepted before, or is older than what was.
    Replay,
    /// It comes from an instance that has ended since; nothing is lost, its successor sends
    /// again what matters.
    Late,
    /// Another machine has the device's key.
    Clone,
}

/// How far devices have counted, as far as it was needed since the start.
#[derive(Default)]
pub(super) struct Register {
    devices: HashMap<String, Numbers>,
}

impl Register {
    /// The numbers of a device, unless they are to be read.
    pub(super) fn get(&mut self, device: &str, numbering: i64) -> Option<&mut Numbers> {
        let numbers = self.devices.get_mut(device);
        numbers.filter(|n| n.numbering == numbering)
    }

    /// Takes up what was read.
    pub(super) fn put(&mut self, device: &str, numbers: Numbers) -> &mut Numbers {
        let entry = self.devices.entry(device.to_owned());
        entry.insert_entry(numbers).into_mut()
    }
}

/// Judges a message, and counts it when it is new.
pub(super) fn judge(numbers: &mut Numbers, message: &Numbered) -> Verdict {
    let number = (message.boot, message.counter);
    let says_hello = matches!(message.message, Up::Hello(_));
    let last = numbers.instances.get(&message.instance).copied();
    let is_current = numbers.current == Some(message.instance);
    let verdict = match last {
        Some(last) if number <= last => Verdict::Replay,
        Some((boot, _)) if boot != message.boot => Verdict::Clone,
        Some(_) if is_current => Verdict::New,
        Some(_) if numbers.current.is_none() => Verdict::New,
        Some(_) if says_hello => Verdict::Clone,
        Some(_) => Verdict::Late,
        None => stranger(numbers, message.boot, says_hello),
    };
    let verdict = match verdict {
        Verdict::Replay if is_disabled(Check::ReportReplay) => Verdict::New,
        Verdict::Clone if is_disabled(Check::Claim) => Verdict::New,
        verdict => verdict,
    };
    if verdict == Verdict::New {
        numbers.current = Some(message.instance);
        numbers.instances.insert(message.instance, number);
    }
    verdict
}

/// Judges a message of an instance that was never heard.
fn stranger(numbers: &Numbers, boot: u64, says_hello: bool) -> Verdict {
    let Some(current) = numbers.current.and_then(|i| numbers.instances.get(&i)) else {
        return Verdict::New;
    };
    let oldest = numbers.instances.values().map(|(boot, _)| *boot).min();
    if boot > current.0 {
        Verdict::New
    } else if oldest.is_some_and(|oldest| boot < oldest) {
        // Too old to be told from an instance that has been forgotten.
        Verdict::Replay
    } else if says_hello {
        Verdict::Clone
    } else {
        Verdict::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_wire::message::Hello;

    fn message(instance: u8, boot: u64, counter: u64, hello: bool) -> Numbered {
        let message = match hello {
            true => Up::Hello(Hello {
                boot,
                agent_version: String::new(),
                arch: String::new(),
                memory_bytes: 0,
                assignment: 0,
            }),
            false => Up::WantManifest { digest: [0; 32] },
        };
        Numbered {
            device: String::new(),
            instance: [instance; 16],
            boot,
            counter,
            message,
        }
    }

    fn judged(numbers: &mut Numbers, messages: &[(u8, u64, u64, bool)]) -> Vec<Verdict> {
        let judge = |&(i, b, c, h): &(u8, u64, u64, bool)| judge(numbers, &message(i, b, c, h));
        messages.iter().map(judge).collect()
    }

    #[test]
    fn a_number_is_taken_once() {
        let mut numbers = Numbers::default();
        let all = judged(
            &mut numbers,
            &[
                (1, 1, 1, true),
                (1, 1, 2, false),
                (1, 1, 2, false),
                (1, 1, 1, true),
                (1, 1, 9, true),
            ],
        );
        use Verdict::{New, Replay};
        assert_eq!(all, [New, New, Replay, Replay, New]);
    }

    #[test]
    fn a_restart_is_no_clone_and_late_messages_are_no_alarm() {
        let mut numbers = Numbers::default();
        let all = judged(
            &mut numbers,
            &[
                (1, 1, 1, true),
                (1, 1, 2, false),
                (2, 2, 1, true),
                // Under way when the agent ended.
                (1, 1, 3, false),
                // Recorded and played again.
                (1, 1, 1, true),
                (2, 2, 2, false),
            ],
        );
        use Verdict::{Late, New, Replay};
        assert_eq!(all, [New, New, New, Late, Replay, New]);
    }

    #[test]
    fn an_instance_that_comes_back_is_a_clone() {
        let mut numbers = Numbers::default();
        let all = judged(
            &mut numbers,
            &[(1, 5, 1, true), (2, 6, 1, true), (1, 5, 2, true)],
        );
        assert_eq!(all[2], Verdict::Clone);
        // A copy of the disk starts with the same number.
        let mut numbers = Numbers::default();
        let all = judged(&mut numbers, &[(1, 5, 1, true), (2, 5, 1, true)]);
        assert_eq!(all[1], Verdict::Clone);
        // An operator has decided: whoever speaks first speaks for the device.
        numbers.current = None;
        let all = judged(&mut numbers, &[(1, 5, 2, true), (1, 5, 1, true)]);
        assert_eq!(all, [Verdict::New, Verdict::Replay]);
    }

    #[test]
    fn forgotten_starts_are_replays() {
        let mut numbers = Numbers::default();
        let all = judged(&mut numbers, &[(9, 900, 1, true), (1, 1, 1, true)]);
        assert_eq!(all[1], Verdict::Replay);
    }
}
