//! Golden bytes of every format, and what is refused.

use super::*;

fn sample() -> Durable {
    let slot = |n: u8| Slot {
        running: Running {
            name: "p".into(),
            version: "1".into(),
            digest: [n; 32],
            counter: u64::from(n),
        },
        epoch: 5,
        total_bytes: 300,
    };
    Durable {
        sequence: 300,
        assignment: Some(vec![9, 8]),
        active: Some(slot(1)),
        previous: None,
        candidate: Some(Candidate {
            epoch: 6,
            digest: [2; 32],
            name: "p".into(),
            counter: 2,
            total_bytes: 10,
            version: "2".into(),
            progress: Progress::Trial,
        }),
        failure: Some(Failure {
            digest: [3; 32],
            step: Step::Load,
            code: FailureCode::GoldenMismatch,
            detail: "x".into(),
        }),
        floors: BTreeMap::from([("p".into(), 1)]),
        quarantine: BTreeMap::from([(
            [3; 32],
            Quarantine {
                failures: 1,
                is_final: true,
                sequence: 299,
            },
        )]),
        time_floor_s: 1_700_000_000,
        root: Some(vec![7]),
        catalog: CatalogMark {
            version: 4,
            sha256: [4; 32],
            issued_unix_s: 300,
            newest: BTreeMap::from([("p".into(), 2)]),
        },
        epoch_floor: 5,
        refused: BTreeMap::from([(FailureCode::Rollback, 300)]),
    }
}

/// [`sample`] as format 1 knew it.
fn sample_v1() -> Durable {
    let mut durable = sample();
    let active = durable.active.as_mut().unwrap();
    (active.epoch, active.total_bytes) = (0, 0);
    durable.candidate.as_mut().unwrap().epoch = 0;
    Durable {
        root: None,
        catalog: CatalogMark::default(),
        epoch_floor: 0,
        refused: BTreeMap::new(),
        ..durable
    }
}

/// Golden bytes of format 1; never to be edited.
#[test]
fn version_1_bytes() {
    let d = |n: u8| vec![n; 32];
    let wanted = [
        vec![1, 0xac, 2, 1, 2, 9, 8], // version, sequence, assignment
        vec![1, 1, b'p', 1, b'1'],
        d(1),
        vec![1], // active
        vec![0], // previous
        vec![1],
        d(2),
        vec![1, b'p', 2, 10, 1, b'2', 2], // candidate
        vec![1],
        d(3),
        vec![2, 5, 1, b'x'], // failure
        vec![1, 1, b'p', 1], // floors
        vec![1],
        d(3),
        vec![1, 1, 0xab, 2],             // quarantine
        vec![0x80, 0xe2, 0xcf, 0xaa, 6], // time floor
    ]
    .concat();
    assert_eq!(Durable::decode(&wanted), Ok(sample_v1()));
}

/// Golden bytes of format 2; never to be edited.
#[test]
fn version_2_bytes() {
    let d = |n: u8| vec![n; 32];
    let wanted = [
        vec![2, 0xac, 2, 1, 2, 9, 8], // version, sequence, assignment
        vec![1, 1, b'p', 1, b'1'],
        d(1),
        vec![1, 5, 0xac, 2], // active
        vec![0],             // previous
        vec![1],
        d(2),
        vec![1, b'p', 2, 10, 1, b'2', 2, 6], // candidate
        vec![1],
        d(3),
        vec![2, 5, 1, b'x'], // failure
        vec![1, 1, b'p', 1], // floors
        vec![1],
        d(3),
        vec![1, 1, 0xab, 2],             // quarantine
        vec![0x80, 0xe2, 0xcf, 0xaa, 6], // time floor
        vec![1, 1, 7],                   // root
        vec![4],
        d(4),
        vec![0xac, 2, 1, 1, b'p', 2], // catalog
        vec![5],                      // epoch floor
        vec![1, 2, 0xac, 2],          // refused
    ]
    .concat();
    assert_eq!(sample().encode(), wanted);
    assert_eq!(Durable::decode(&wanted), Ok(sample()));
}

#[test]
fn foreign_bytes_are_refused() {
    let mut bytes = sample().encode();
    bytes.push(0);
    assert_eq!(Durable::decode(&bytes), Err(DurableError::Parse));
    bytes[0] = 3;
    assert_eq!(Durable::decode(&bytes), Err(DurableError::Version(3)));
    assert_eq!(Durable::decode(&[]), Err(DurableError::Parse));
}

#[test]
fn quarantine_forgets_the_oldest() {
    let mut durable = Durable::default();
    for n in 0..=MAX_QUARANTINED {
        durable.sequence = n as u64 + 1;
        durable.quarantine_mut([n as u8; 32]).failures = 1;
    }
    assert_eq!(durable.quarantine.len(), MAX_QUARANTINED);
    assert_eq!(durable.failures(&[0; 32]), 0);
    assert_eq!(durable.failures(&[1; 32]), 1);
}
