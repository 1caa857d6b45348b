//! Sources that are slow, silent or corrupt: the device leaves them alone for a while, says
//! so, keeps what it has, and completes once an honest source is there.

use drover_agent_core::{Event, Timing};
use drover_wire::message::{FailureCode, Phase, Up};

use crate::world::{Bundle, Device, Mail, RELEASE_KEYS, Server, committed, deliver, settle};

/// A bundle of many chunks.
fn large(counter: u64) -> Bundle {
    Bundle::sized(counter, &RELEASE_KEYS, 1000)
}

/// A device that has the manifest of `new` and asks for its chunks.
fn downloading(new: &Bundle) -> (Device, Server) {
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    device.signed.insert(new.digest);
    server.assign(2, new);
    device.on(Event::Disconnected).unwrap();
    device.up.clear();
    device.on(Event::Connected).unwrap();
    for _ in 0..3 {
        for up in std::mem::take(&mut device.up) {
            for mail in server.answer(&up) {
                if !matches!(mail, Mail::Chunk(..)) {
                    deliver(&mut device, mail).unwrap();
                }
            }
        }
    }
    assert!(matches!(device.phase(), Phase::Fetching { total: 101, .. }));
    (device, server)
}

fn chunk(device: &mut Device, bundle: &Bundle, index: u32) {
    let mail = Mail::Chunk(bundle.digest, index, bundle.chunk(index));
    deliver(device, mail).unwrap();
}

/// Lets time pass, timers included.
fn pass(device: &mut Device, ms: u64) {
    let end = device.now_ms + ms;
    while device.machine.deadline().is_some_and(|at| at <= end) {
        device.wait().unwrap();
    }
    device.now_ms = end;
}

fn completes(device: &mut Device, server: &Server, new: &Bundle) {
    // What was asked of the bad source is not answered by the good one.
    device.up.clear();
    settle(device, server).unwrap();
    assert_eq!(device.running, Some(new.digest), "{:?}", device.phase());
}

#[test]
fn a_source_that_drips_is_left_alone_and_asked_again() {
    let new = large(2);
    let (mut device, server) = downloading(&new);
    let window = Timing::default().rate_window_ms;
    // One chunk every two minutes: alive, and far below the least rate.
    for index in 0..3 {
        chunk(&mut device, &new, index);
        pass(&mut device, 120_000);
    }
    assert_eq!(device.refusals(), [FailureCode::Slow]);
    // What came is kept; the attempt is taken up again by itself.
    assert!(matches!(device.phase(), Phase::Fetching { have: 3, .. }));
    device.up.clear();
    pass(&mut device, window);
    let asked = |up: &Up| matches!(up, Up::WantChunks { missing, .. } if missing.count() == 98);
    assert!(device.up.iter().any(asked), "{:?}", device.up);
    assert!(device.topics.contains(&new.digest));
    completes(&mut device, &server, &new);
}

#[test]
fn a_drip_for_a_month_costs_little_and_ends_nothing() {
    let new = large(2);
    let (mut device, server) = downloading(&new);
    let mut index = 0;
    device.up.clear();
    for _ in 0..30 * 24 {
        if index < 90 {
            chunk(&mut device, &new, index);
            index += 1;
        }
        pass(&mut device, 3_600_000);
    }
    // A question every few minutes, and a bounded number of records.
    assert!(
        device.up.len() < 30 * 24 * 60,
        "{} messages",
        device.up.len()
    );
    assert!(device.refusals().len() < 30 * 24 * 30);
    assert!(matches!(device.phase(), Phase::Fetching { have: 90, .. }));
    device.up.clear();
    completes(&mut device, &server, &new);
}

#[test]
fn a_part_that_is_held_back_is_reported() {
    let new = large(2);
    let (mut device, server) = downloading(&new);
    for index in 0..100 {
        chunk(&mut device, &new, index);
    }
    pass(&mut device, 2 * Timing::default().rate_window_ms + 1);
    assert!(device.refusals().contains(&FailureCode::Incomplete));
    assert!(matches!(
        device.phase(),
        Phase::Fetching {
            have: 100,
            total: 101,
            ..
        }
    ));
    assert!(!device.disk.files.contains(&new.digest));
    assert_eq!(device.early_stages, 0);
    completes(&mut device, &server, &new);
}

#[test]
fn a_download_that_never_ends_meets_its_deadline() {
    let new = Bundle::sized(2, &RELEASE_KEYS, 10_000);
    let (mut device, mut server) = committed(&Bundle::new(1, &RELEASE_KEYS));
    device.signed.insert(new.digest);
    server.assign(2, &new);
    device.on(Event::Disconnected).unwrap();
    device.on(Event::Connected).unwrap();
    for _ in 0..3 {
        for up in std::mem::take(&mut device.up) {
            let mails = server.answer(&up).into_iter();
            for mail in mails.filter(|m| !matches!(m, Mail::Chunk(..))) {
                deliver(&mut device, mail).unwrap();
            }
        }
    }
    // Just fast enough in each window.
    for index in 0..400 {
        chunk(&mut device, &new, index);
        pass(&mut device, 60_000);
    }
    assert_eq!(device.refusals(), [FailureCode::Slow]);
    completes(&mut device, &server, &new);
}

#[test]
fn corrupted_copies_between_honest_chunks_stop_nothing() {
    let new = large(2);
    let (mut device, _) = downloading(&new);
    for index in 0..101 {
        for n in 0..50u8 {
            let mut bad = new.chunk(index);
            bad[0] ^= n + 1;
            let mail = Mail::Chunk(new.digest, index, bad);
            deliver(&mut device, mail).unwrap();
        }
        chunk(&mut device, &new, index);
    }
    assert_eq!(device.running, Some(new.digest), "{:?}", device.phase());
    let codes = device.refusals();
    assert!(
        codes.iter().all(|c| *c == FailureCode::Mismatch),
        "{codes:?}"
    );
    assert!(codes.len() < 40, "the records are limited");
}

#[test]
fn a_flood_of_rubbish_before_the_first_honest_chunk_stops_nothing() {
    let new = large(2);
    let (mut device, _) = downloading(&new);
    for n in 0..20_000u32 {
        let mail = Mail::Chunk(new.digest, n % 150, n.to_le_bytes().to_vec());
        deliver(&mut device, mail).unwrap();
    }
    assert!(device.topics.contains(&new.digest), "still listening");
    for index in 0..101 {
        chunk(&mut device, &new, index);
    }
    assert_eq!(device.running, Some(new.digest), "{:?}", device.phase());
}

#[test]
fn a_source_that_only_corrupts_is_left_alone_for_a_while() {
    let new = large(2);
    let (mut device, server) = downloading(&new);
    let mut sent = 0;
    while device.topics.contains(&new.digest) {
        let mail = Mail::Chunk(new.digest, sent % 101, vec![0; 10]);
        deliver(&mut device, mail).unwrap();
        sent += 1;
        pass(&mut device, 500);
        assert!(sent < 1000, "never left alone");
    }
    assert!(sent > 101, "a round of wrong copies is too early");
    assert!(matches!(device.phase(), Phase::Fetching { have: 0, .. }));
    assert!(device.disk.chunks.is_empty());
    // And the update finishes from an honest one.
    completes(&mut device, &server, &new);
}

#[test]
fn time_without_a_connection_is_not_held_against_a_source() {
    let new = large(2);
    let (mut device, server) = downloading(&new);
    chunk(&mut device, &new, 0);
    device.on(Event::Disconnected).unwrap();
    pass(&mut device, 24 * 3_600_000);
    assert_eq!(device.refusals(), []);
    completes(&mut device, &server, &new);
}
