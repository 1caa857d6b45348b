//! The fleet's messages, chunks, enrolment and topics.

use std::collections::BTreeSet;

use arbitrary::Unstructured;
use drover_wire::bitmap::Bitmap;
use drover_wire::chunk::Chunk;
use drover_wire::enrol::{
    CertificateGrant, CertificateReply, CertificateRequest, EnrolReply, EnrolRequest,
    MAX_REPLY_BYTES, MAX_REQUEST_BYTES,
};
use drover_wire::limits::{MAX_CHUNK_BYTES, MAX_DOWN_BYTES, MAX_UP_BYTES};
use drover_wire::message::{Ack, Addressed, Numbered, Record, RootChain, Up};
use drover_wire::topic;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bound::{self, POSTCARD, bounded, linear};
use crate::draw::draw;
use crate::parser::{self, Parser, drawn_seeds, noise};

macro_rules! message {
    ($name:literal, $type:ty, $limit:expr) => {
        Parser {
            name: $name,
            bound: POSTCARD,
            limit: $limit,
            read: |parser, bytes| {
                let encode = |value: &$type| value.encode().ok();
                let value = parser.round_trip(bytes, |b| <$type>::decode(b).ok(), encode);
                value.is_some()
            },
            seeds: || drawn_seeds::<$type>(|value| value.encode().ok()),
        }
    };
}

/// All parsers of `drover-wire` but that of node frames.
pub const PARSERS: &[Parser] = &[
    message!("wire Up", Up, MAX_UP_BYTES),
    message!("wire Numbered", Numbered, MAX_UP_BYTES),
    message!("wire Record", Record, MAX_UP_BYTES),
    message!("wire Addressed", Addressed, MAX_DOWN_BYTES),
    message!("wire RootChain", RootChain, MAX_DOWN_BYTES),
    message!("wire EnrolRequest", EnrolRequest, MAX_REQUEST_BYTES),
    message!("wire EnrolReply", EnrolReply, MAX_REPLY_BYTES),
    message!(
        "wire CertificateRequest",
        CertificateRequest,
        MAX_REPLY_BYTES
    ),
    message!("wire CertificateReply", CertificateReply, MAX_REPLY_BYTES),
    message!("wire CertificateGrant", CertificateGrant, MAX_REPLY_BYTES),
    Parser {
        name: "wire Bitmap",
        bound: linear(4, 512),
        limit: MAX_UP_BYTES,
        read: read_bitmap,
        seeds: || drawn_seeds::<Bitmap>(|map| postcard::to_allocvec(map).ok()),
    },
    Parser {
        name: "wire Chunk",
        bound: bound::NONE,
        limit: MAX_CHUNK_BYTES + 5,
        read: |parser, bytes| {
            let value = bounded(parser, bytes.len(), || Chunk::decode(bytes));
            if let Some(chunk) = value {
                assert_eq!(chunk.encode(), bytes);
            }
            value.is_some()
        },
        seeds: || {
            let bytes = [&[1, 2, 0, 0, 0][..], b"content"].concat();
            vec![bytes]
        },
    },
    Parser {
        name: "wire topics",
        bound: bound::NONE,
        limit: 65_535,
        read: read_topic,
        seeds: || {
            let digest = std::array::from_fn(|i| i as u8);
            [
                topic::up("abc"),
                topic::bundle(&digest),
                topic::roots("abc"),
            ]
            .map(String::into_bytes)
            .to_vec()
        },
    },
];

fn read_bitmap(parser: &Parser, bytes: &[u8]) -> bool {
    let decode = |bytes: &[u8]| match postcard::take_from_bytes::<Bitmap>(bytes) {
        Ok((map, [])) => Some(map),
        _ => None,
    };
    let map = parser.round_trip(bytes, decode, |map| postcard::to_allocvec(map).ok());
    let Some(mut map) = map else {
        return false;
    };
    // A claimed length of four thousand million chunks must cost nothing.
    let indices: Vec<u32> = map.iter().collect();
    assert_eq!(map.count(), indices.len());
    assert!(indices.len() <= bytes.len() * 8);
    for index in indices {
        assert!(index < map.len() && map.contains(index));
        map.remove(index);
    }
    assert!(map.is_empty());
    true
}

fn read_topic(parser: &Parser, bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let (device, digest) = bounded(parser, bytes.len(), || {
        (topic::device_of_up(text), topic::digest_of_bundle(text))
    });
    if let Some(device) = device {
        assert_eq!(topic::up(device), text);
        assert!(!device.is_empty() && !device.contains('/'));
    }
    if let Some(digest) = digest {
        assert_eq!(topic::bundle(&digest), text);
    }
    device.is_some() || digest.is_some()
}

/// Seeds of [`raw`].
pub fn raw_seeds() -> Vec<Vec<u8>> {
    parser::seeds(PARSERS)
}

/// Raw bytes for every parser.
pub fn raw(bytes: &[u8]) {
    parser::dispatch(PARSERS, bytes);
}

/// Drawn messages, and sequences of changes to bitmaps and acknowledgements.
pub fn structured(bytes: &[u8]) {
    let u = &mut Unstructured::new(bytes);
    match u.int_in_range(0..=11).unwrap_or(0) {
        0 => survives::<Up>(u, |v| v.encode().ok(), |b| Up::decode(b).ok()),
        1 => survives::<Numbered>(u, |v| v.encode().ok(), |b| Numbered::decode(b).ok()),
        2 => survives::<Record>(u, |v| v.encode().ok(), |b| Record::decode(b).ok()),
        3 => survives::<Addressed>(u, |v| v.encode().ok(), |b| Addressed::decode(b).ok()),
        4 => survives::<RootChain>(u, |v| v.encode().ok(), |b| RootChain::decode(b).ok()),
        5 => survives::<EnrolReply>(u, |v| v.encode().ok(), |b| EnrolReply::decode(b).ok()),
        6 => survives::<EnrolRequest>(u, |v| v.encode().ok(), |b| EnrolRequest::decode(b).ok()),
        7 => survives::<CertificateRequest>(
            u,
            |v| v.encode().ok(),
            |b| CertificateRequest::decode(b).ok(),
        ),
        8 => survives::<CertificateReply>(
            u,
            |v| v.encode().ok(),
            |b| CertificateReply::decode(b).ok(),
        ),
        9 => survives::<CertificateGrant>(
            u,
            |v| v.encode().ok(),
            |b| CertificateGrant::decode(b).ok(),
        ),
        10 => bitmap_is_a_set(u),
        _ => ack_covers_its_sequences(u),
    }
}

/// What is written and accepted reads back as it was; NaN is compared by its bytes.
pub(crate) fn survives<T: Serialize + DeserializeOwned>(
    u: &mut Unstructured<'_>,
    encode: impl Fn(&T) -> Option<Vec<u8>>,
    decode: impl Fn(&[u8]) -> Option<T>,
) {
    let Some(value) = draw::<T>(u) else { return };
    let Some(bytes) = encode(&value) else { return };
    // Writers do not check what only readers refuse, such as control characters in a name.
    if let Some(read) = decode(&bytes) {
        assert_eq!(encode(&read).as_deref(), Some(&bytes[..]));
    }
}

fn bitmap_is_a_set(u: &mut Unstructured<'_>) {
    let len = u.int_in_range(0..=5000).unwrap_or(0);
    let full = u.arbitrary().unwrap_or(false);
    let mut map = if full {
        Bitmap::full(len)
    } else {
        Bitmap::empty(len)
    };
    let mut model: BTreeSet<u32> = (0..len).filter(|_| full).collect();
    while let Ok((insert, index)) = u.arbitrary::<(bool, u16)>() {
        if u.is_empty() {
            break;
        }
        let index = u32::from(index) % 6000;
        if insert {
            map.insert(index);
            model.extend((index < len).then_some(index));
        } else {
            map.remove(index);
            model.remove(&index);
        }
        assert_eq!(map.contains(index), model.contains(&index));
    }
    assert!(map.iter().eq(model));
}

fn ack_covers_its_sequences(u: &mut Unstructured<'_>) {
    let mut sequences: Vec<u64> = u.arbitrary().unwrap_or_default();
    sequences.sort_unstable();
    sequences.dedup();
    let ack = Ack::of(1, sequences.iter().copied());
    assert!(ack.ranges.len() <= sequences.len());
    let sum: u128 = ack
        .ranges
        .iter()
        .map(|(a, b)| u128::from(*b) - u128::from(*a) + 1)
        .sum();
    assert_eq!(sum, sequences.len() as u128);
    for (from, to) in &ack.ranges {
        assert!(sequences.binary_search(from).is_ok() && sequences.binary_search(to).is_ok());
    }
}

/// Seeds of [`structured`].
pub fn structured_seeds() -> Vec<Vec<u8>> {
    (1..60).map(|n| noise(n, 600)).collect()
}
