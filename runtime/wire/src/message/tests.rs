//! Golden bytes of protocol version 1. A failing test here means that devices in the field
//! no longer understand: mend the code, never the bytes.

use alloc::format;
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
fn numbered_version_1() {
    let message = Numbered {
        device: "dev".to_string(),
        instance: [0xcd; 16],
        boot: 3,
        counter: 300,
        message: Up::Trust(TrustReport {
            root_version: 2,
            catalog_version: 5,
            catalog_unix_s: 1_700_000_000,
            time_floor_s: 1_700_000_001,
            installed: vec![Installed {
                digest: [0xab; 32],
                counter: 7,
                epoch: 1,
                total_bytes: 300,
            }],
            refused: vec![(FailureCode::Frozen, 4)],
        }),
    };
    let bytes = message.encode().unwrap();
    let wanted = [
        "0103646576",
        &"cd".repeat(16),
        "03ac02",
        "050205",
        "80e2cfaa06",
        "81e2cfaa06",
        "01",
        &"ab".repeat(32),
        "0701ac02",
        "010a04",
    ];
    assert_eq!(hex(&bytes), wanted.concat());
    assert_eq!(Numbered::decode(&bytes).unwrap(), message);
}

#[test]
fn down_version_1_with_catalogs_keys_and_vouchers() {
    let cases = [
        (
            Down::Desired {
                assignment: vec![1, 2],
                catalog: vec![3],
            },
            "05020102010 3",
        ),
        (
            Down::ContentKey {
                digest: [0xab; 32],
                encapsulated: [0xcd; 32],
                wrapped: vec![9],
            },
            "06 AB CD 0109",
        ),
        (Down::Transfer { voucher: vec![7] }, "070107"),
    ];
    for (message, wanted) in cases {
        let wanted = wanted
            .replace(' ', "")
            .replace("AB", &"ab".repeat(32))
            .replace("CD", &"cd".repeat(32));
        let addressed = Addressed {
            device: "d".to_string(),
            sent_unix_s: 1,
            message,
        };
        let bytes = addressed.encode().unwrap();
        assert_eq!(hex(&bytes), format!("01016401{wanted}"));
        assert_eq!(Addressed::decode(&bytes).unwrap(), addressed);
    }
    let chain = RootChain {
        roots: vec![vec![1], vec![2, 3]],
    };
    assert_eq!(hex(&chain.encode().unwrap()), "01020101020203");
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
