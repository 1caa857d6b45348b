//! The node link: its bytes for ever, and what any stream of bytes may do to its decoder.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use drover_wire::node::{
    Decoder, FrameError, Hello, Level, Log, MAX_CHANNELS, MAX_FRAME, Message, NodeDown, NodeUp,
    PROTO_VERSION, Pong, Samples, encode,
};
use proptest::{collection::vec, prelude::*};

fn frame(message: &impl Message) -> Vec<u8> {
    let mut out = [0; MAX_FRAME];
    encode(message, &mut out).unwrap().to_vec()
}

fn pull_all<M: Message>(decoder: &mut Decoder<M>, mut bytes: &[u8]) -> Vec<M> {
    std::iter::from_fn(|| decoder.pull(&mut bytes)).collect()
}

fn hello() -> Hello {
    Hello {
        proto_version: PROTO_VERSION,
        uid: *b"\x00\x01node\xfe\xff",
        board: "mps2-an386".try_into().unwrap(),
        fw_version: "0.1.0".try_into().unwrap(),
        channels: [
            "temperature_degc".try_into().unwrap(),
            "current_a".try_into().unwrap(),
        ]
        .into_iter()
        .collect(),
    }
}

/// Never edit these: nodes in the field speak them.
#[test]
fn golden_bytes_up() {
    let golden = [
        (
            NodeUp::Hello(hello()),
            "01020139016e6f6465feff0a6d7073322d616e33383605302e312e30021074656d70657261747572655f646567630963757272656e745f612f2f135100",
        ),
        (
            NodeUp::Samples(Samples {
                seq: 300,
                t_us: 1_500_000,
                sensor_errors: 0,
                values: [21.5, -0.25].into_iter().collect(),
            }),
            "0701ac02e0c65b02020103ac41010780be5a04e13800",
        ),
        (
            NodeUp::Log(Log {
                level: Level::Warn,
                text: "sensor silent".try_into().unwrap(),
            }),
            "1502010d73656e736f722073696c656e74bad0878300",
        ),
        (
            NodeUp::Pong(Pong {
                nonce: 7,
                period_ms: 100,
                bad_frames: 1,
            }),
            "09030764014e61c86200",
        ),
    ];
    for (message, hex) in golden {
        check_golden(message, hex);
    }
}

/// Never edit these: nodes in the field speak them.
#[test]
fn golden_bytes_down() {
    let golden = [
        (
            NodeDown::Welcome {
                proto_version: 1,
                session: 0xdead_beef,
            },
            "010b01effdb6f50d0b59ca8100",
        ),
        (NodeDown::Config { period_ms: 250 }, "0801fa012f6f85c900"),
        (
            NodeDown::Ping {
                session: 0xdead_beef,
                nonce: 7,
            },
            "0c02effdb6f50d0767fbac9000",
        ),
    ];
    for (message, hex) in golden {
        check_golden(message, hex);
    }
}

fn check_golden<M: Message + PartialEq + std::fmt::Debug>(message: M, hex: &str) {
    use std::fmt::Write;
    let bytes = frame(&message);
    let mut got = String::new();
    for byte in &bytes {
        write!(got, "{byte:02x}").unwrap();
    }
    assert_eq!(got, hex, "{message:?}");
    assert_eq!(pull_all(&mut Decoder::<M>::new(), &bytes), [message]);
}

#[test]
fn crc_is_castagnoli() {
    // "123456789" is the check input of the CRC catalogue; here it is the text of a log.
    let bytes = frame(&NodeUp::Log(Log {
        level: Level::Info,
        text: "123456789".try_into().unwrap(),
    }));
    let mut raw = bytes.clone();
    let len = cobs::decode_in_place(&mut raw[..bytes.len() - 1]).unwrap();
    assert_eq!(&raw[..len - 4], b"\x02\x00\x09123456789");
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    assert_eq!(crc.checksum(b"123456789"), 0xe306_9283);
    assert_eq!(
        raw[len - 4..len],
        crc.checksum(&raw[..len - 4]).to_le_bytes()
    );
}

#[test]
fn nan_samples_keep_their_place() {
    let bytes = frame(&NodeUp::Samples(Samples {
        seq: 0,
        t_us: 0,
        sensor_errors: 3,
        values: [f32::NAN, 1.0].into_iter().collect(),
    }));
    let got = pull_all::<NodeUp>(&mut Decoder::new(), &bytes);
    assert!(
        matches!(&got[..], [NodeUp::Samples(s)] if s.values[0].is_nan() && s.values[1] == 1.0),
        "{got:?}"
    );
}

#[test]
fn short_buffer_is_an_error() {
    let message = NodeUp::Hello(hello());
    let need = frame(&message).len();
    for have in 0..need {
        let mut out = [0; MAX_FRAME];
        assert_eq!(
            encode(&message, &mut out[..have]),
            Err(FrameError::BufferTooShort { have })
        );
    }
}

#[test]
fn the_largest_messages_fit_a_frame() {
    let name = "n".repeat(32);
    let largest = Hello {
        proto_version: u16::MAX,
        uid: [255; 8],
        board: "b".repeat(24).as_str().try_into().unwrap(),
        fw_version: "v".repeat(24).as_str().try_into().unwrap(),
        channels: (0..MAX_CHANNELS)
            .map(|_| name.as_str().try_into().unwrap())
            .collect(),
    };
    assert!(frame(&NodeUp::Hello(largest)).len() <= MAX_FRAME);
}

#[test]
fn trailing_bytes_unknown_messages_and_long_frames_are_bad() {
    let sealed = |body: &[u8]| {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(body);
        let raw = [body, &crc.to_le_bytes()].concat();
        let mut out = vec![0; cobs::max_encoding_length(raw.len())];
        let len = cobs::encode(&raw, &mut out);
        out.truncate(len);
        out.push(0);
        out
    };
    let mut decoder = Decoder::<NodeDown>::new();
    // Config{period_ms: 10} with a byte behind it; then a variant that does not exist.
    assert!(pull_all(&mut decoder, &sealed(&[1, 10, 0])).is_empty());
    assert!(pull_all(&mut decoder, &sealed(&[9, 10])).is_empty());
    let long = [vec![1; 10 * MAX_FRAME], vec![0]].concat();
    assert!(pull_all(&mut decoder, &long).is_empty());
    assert_eq!(decoder.bad_frames(), 3);
    let good = NodeDown::Config { period_ms: 10 };
    assert_eq!(pull_all(&mut decoder, &sealed(&[1, 10])), [good]);
    assert_eq!(decoder.bad_frames(), 3);
}

prop_compose! {
    fn samples()(
        seq: u32,
        t_us: u64,
        sensor_errors: u32,
        values in vec(any::<f32>(), 0..=MAX_CHANNELS),
    ) -> Samples {
        Samples { seq, t_us, sensor_errors, values: values.into_iter().collect() }
    }
}

prop_compose! {
    fn any_hello()(
        proto_version: u16,
        uid: [u8; 8],
        board in "[a-z0-9-]{0,24}",
        fw_version in "[0-9.]{0,24}",
        channels in vec("[a-z_]{0,32}", 0..=MAX_CHANNELS),
    ) -> Hello {
        Hello {
            proto_version,
            uid,
            board: board.as_str().try_into().unwrap(),
            fw_version: fw_version.as_str().try_into().unwrap(),
            channels: channels.iter().map(|c| c.as_str().try_into().unwrap()).collect(),
        }
    }
}

fn up() -> impl Strategy<Value = NodeUp> {
    prop_oneof![
        samples().prop_map(NodeUp::Samples),
        any_hello().prop_map(NodeUp::Hello),
        "[a-z \u{e4}]{0,48}".prop_map(|text| NodeUp::Log(Log {
            level: Level::Error,
            text: text.as_str().try_into().unwrap(),
        })),
        any::<(u32, u32, u32)>().prop_map(|(nonce, period_ms, bad_frames)| NodeUp::Pong(Pong {
            nonce,
            period_ms,
            bad_frames,
        })),
    ]
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_gives_the_same_messages(
        messages in vec(up(), 0..6),
        cut in 1..64_usize,
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(frame).collect();
        let mut decoder = Decoder::new();
        let got: Vec<NodeUp> = stream
            .chunks(cut)
            .flat_map(|part| pull_all(&mut decoder, part))
            .collect();
        prop_assert_eq!(got, messages);
        prop_assert_eq!(decoder.bad_frames(), 0);
    }

    #[test]
    fn damage_costs_at_most_the_frames_it_touches(
        messages in vec(up(), 2..6),
        at: prop::sample::Index,
        flip in 1..=255_u8,
    ) {
        let mut stream: Vec<u8> = messages.iter().flat_map(frame).collect();
        let at = at.index(stream.len());
        let was_zero = stream[at] == 0;
        stream[at] ^= flip;
        let mut decoder = Decoder::new();
        let got: Vec<NodeUp> = pull_all(&mut decoder, &stream);
        // A lost separator glues two frames together; anything else stays within its frame.
        let lost = if was_zero { 2 } else { 1 };
        prop_assert!(got.len() + lost >= messages.len());
        prop_assert!(got.iter().all(|m| messages.contains(m)));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_leave_a_working_decoder(
        noise in vec(any::<u8>(), 0..2048),
        message in up(),
    ) {
        let mut decoder = Decoder::new();
        let _ = pull_all::<NodeUp>(&mut decoder, &noise);
        let _ = pull_all::<NodeUp>(&mut decoder, &[0]);
        prop_assert_eq!(pull_all(&mut decoder, &frame(&message)), [message]);
    }
}
