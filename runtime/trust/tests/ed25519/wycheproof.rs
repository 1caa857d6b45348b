//! Project Wycheproof's vectors, from the table beside this file.

use std::collections::BTreeMap;

use drover_trust::PublicKey;

const TABLE: &str = include_str!("wycheproof.txt");
/// Every flag of the source.
const FLAGS: [&str; 10] = [
    "CompressedSignature",
    "InvalidEncoding",
    "InvalidKtv",
    "InvalidSignature",
    "Ktv",
    "SignatureMalleability",
    "SignatureWithGarbage",
    "TinkOverflow",
    "TruncatedSignature",
    "Valid",
];

fn bytes(field: &str) -> Vec<u8> {
    match field {
        "-" => Vec::new(),
        hex => data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap(),
    }
}

#[test]
fn every_vector_is_judged_as_published() {
    let mut seen = BTreeMap::new();
    let rows = TABLE
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    for row in rows {
        let fields: Vec<&str> = row.split(' ').collect();
        let [number, flag, result, key, message, signature] = fields[..] else {
            panic!("{row:?} has not six fields");
        };
        let key = PublicKey(bytes(key).try_into().unwrap());
        key.check().unwrap();
        // A signature is 64 bytes by its type; any other length cannot be offered at all.
        let accepted = <[u8; 64]>::try_from(bytes(signature))
            .is_ok_and(|signature| key.verifies(&bytes(message), &signature));
        assert_eq!(accepted, result == "valid", "vector {number} ({flag})");
        assert!(result == "valid" || result == "invalid", "{row}");
        *seen.entry(flag).or_insert(0) += 1;
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), FLAGS);
    assert!(seen.values().sum::<u32>() >= 90, "{seen:?}");
}
