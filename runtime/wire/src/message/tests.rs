//! Golden bytes of protocol version 1. A failing test here means that devices in the field
//! no longer understand: mend the code, never the bytes.

use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::limits::PROTOCOL_VERSION;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| alloc::format!("{b:02x}")).collect()
}

#[test]
fn up_version_1() {
    let cases = [
        (
            Up::Hello(Hello {
                boot: 3,
                agent_version: "0.1.0".to_string(),
                arch: "aarch64".to_string(),
                memory_bytes: 1 << 30,
                assignment: 300,
            }),
            "01000305302e312e3007616172636836348080808004ac02",
        ),
        (
            Up::WantChunks {
                digest: [0xab; 32],
                missing: {
                    let mut map = Bitmap::empty(10);
                    map.insert(0);
                    map.insert(9);
                    map
                },
            },
            "0103abababababababababababababababababababababababababababababababab0a020102",
        ),
        (
            Up::Batch(Batch {
                boot: 2,
                records: vec![
                    Record {
                        sequence: 7,
                        unix_ms: 1_700_000_000_000,
                        body: Body::Observation(Observation {
                            model: [1; 32],
                            window: 5,
                            score: 0.5,
                            decision: Verdict::Anomalous,
                            latency_us: 250,
                            input: vec![],
                            output: vec![1.0],
                        }),
                    },
                    Record {
                        sequence: 8,
                        unix_ms: 1_700_000_000_001,
                        body: Body::Event(Event::Evicted { records: 4 }),
                    },
                ],
            }),
            "010402020780d095ffbc31000101010101010101010101010101010101010101010101010101010101010101050000003f02fa0100010000803f0881d095ffbc31020404",
        ),
        (
            Up::State(State {
                assignment: 4,
                active: None,
                phase: Phase::Failed {
                    digest: [2; 32],
                    step: Step::Load,
                    code: FailureCode::GoldenMismatch,
                    detail: "x".to_string(),
                },
            }),
            "0101040005020202020202020202020202020202020202020202020202020202020202020202050178",
        ),
    ];
    for (message, wanted) in cases {
        let bytes = message.encode().unwrap();
        assert_eq!(hex(&bytes), wanted, "{message:?}");
        assert_eq!(Up::decode(&bytes).unwrap(), message);
    }
}

#[test]
fn down_version_1() {
    let message = Addressed {
        device: "dev".to_string(),
        sent_unix_s: 1_700_000_000,
        message: Down::Ack(Ack::of(2, [1, 2, 3, 7, 9, 10])),
    };
    let bytes = message.encode().unwrap();
    assert_eq!(hex(&bytes), "010364657680e2cfaa0602020301030707090a");
    assert_eq!(Addressed::decode(&bytes).unwrap(), message);
}

#[test]
fn acks_join_adjacent_sequences() {
    let ack = Ack::of(1, [1, 2, 3, 7, 9, 10]);
    assert_eq!(ack.ranges, [(1, 3), (7, 7), (9, 10)]);
}

#[test]
fn other_versions_and_trailing_bytes_are_refused() {
    let mut bytes = Up::WantManifest { digest: [0; 32] }.encode().unwrap();
    bytes[0] = 9;
    assert_eq!(Up::decode(&bytes), Err(WireError::Version(9)));
    bytes[0] = PROTOCOL_VERSION;
    bytes.push(0);
    assert_eq!(Up::decode(&bytes), Err(WireError::Parse));
    assert_eq!(Up::decode(&[]), Err(WireError::Parse));
}
