//! Points whose order is not the prime order of the group, second encodings of points, and
//! scalars beyond the order: made here, because nobody can sign them honestly.
//!
//! The curve has eight points of small order (the torsion). A point of mixed order is an honest
//! one plus one of those: verifiers that multiply by the cofactor accept signatures for it that
//! others refuse, so what is accepted must be exactly what the equation without the cofactor
//! says.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as BASE, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity as _;
use drover_trust::{PublicKey, SecretKey, TrustError};
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};

/// 2^255 - 19, little-endian.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};
/// The order of the base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn scalar(seed: &[u8]) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(seed).into())
}

fn encoded(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

/// SHA-512(R, A, M) modulo the order, as RFC 8032 has it, and modulo 8.
fn challenge(r: &[u8; 32], a: &[u8; 32], message: &[u8]) -> (Scalar, u8) {
    let hash: [u8; 64] = Sha512::new()
        .chain_update(r)
        .chain_update(a)
        .chain_update(message)
        .finalize()
        .into();
    let reduced = Scalar::from_bytes_mod_order_wide(&hash);
    (reduced, reduced.as_bytes()[0] % 8)
}

fn joined(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// Little-endian sum; the carry out of the last byte is lost.
fn plus(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let mut carry = 0u16;
    std::array::from_fn(|i| {
        carry = (carry >> 8) + u16::from(a[i]) + u16::from(b[i]);
        carry.to_le_bytes()[0]
    })
}

#[test]
fn keys_of_small_order_are_refused_in_every_encoding() {
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.map(encoded).to_vec();
    // y + p where that still fits 255 bits, and the sign of an x that is zero.
    for y in [0u8, 1] {
        let mut small = [0; 32];
        small[0] = y;
        encodings.push(plus(P, small));
    }
    let minus_one = plus(P, [0xff; 32]);
    encodings.push(minus_one);
    for mut encoding in encodings.clone() {
        encoding[31] ^= 0x80;
        encodings.push(encoding);
    }
    assert_eq!(encodings.len(), 22);
    for key in encodings {
        assert_eq!(PublicKey(key).check(), Err(TrustError::Key), "{key:x?}");
        // For such a key, S = 0 and R = -h A verify anything by lax rules.
        for torsion in EIGHT_TORSION {
            for message in [&b"one"[..], b"two", b"three"] {
                let signature = joined(encoded(torsion), [0; 32]);
                assert!(!PublicKey(key).verifies(message, &signature), "{key:x?}");
            }
        }
    }
}

/// A second encoding would let one key count as two.
#[test]
fn keys_have_one_encoding() {
    let mut points = 0;
    for y in 0..19u8 {
        let mut small = [0; 32];
        small[0] = y;
        for sign in [0, 0x80] {
            let mut canonical = small;
            canonical[31] |= sign;
            let mut second = plus(P, small);
            second[31] |= sign;
            let point = CompressedEdwardsY(second).decompress();
            points += usize::from(point.is_some());
            assert_eq!(
                PublicKey(second).check(),
                Err(TrustError::Key),
                "y = {y} + p"
            );
            let wanted = CompressedEdwardsY(canonical)
                .decompress()
                .is_some_and(|p| !p.is_small_order() && encoded(p) == canonical);
            assert_eq!(PublicKey(canonical).check().is_ok(), wanted, "y = {y}");
        }
    }
    assert!(points > 10, "only {points} of these are points at all");
}

/// With R the identity and S = h a the equation holds; strict rules refuse the R.
#[test]
fn signatures_with_an_r_of_small_order_are_refused() {
    let a = scalar(b"a secret");
    let key = encoded(BASE * a);
    for message in [&b"m"[..], b"another", b""] {
        let r = encoded(EdwardsPoint::identity());
        let (h, _) = challenge(&r, &key, message);
        assert_eq!(BASE * (h * a), (BASE * a) * h, "the equation holds");
        let signature = joined(r, (h * a).to_bytes());
        assert!(!PublicKey(key).verifies(message, &signature));
        for torsion in EIGHT_TORSION {
            let r = encoded(torsion);
            let (h, _) = challenge(&r, &key, message);
            assert!(!PublicKey(key).verifies(message, &joined(r, (h * a).to_bytes())));
        }
    }
}

/// Keys with a part of small order: the equation without the cofactor holds for the messages
/// whose challenge cancels that part, and only those are accepted.
#[test]
fn keys_of_mixed_order_are_judged_without_the_cofactor() {
    let (a, nonce) = (scalar(b"a secret"), scalar(b"a nonce"));
    let r = encoded(BASE * nonce);
    let (mut accepted, mut refused) = (0, 0);
    for torsion in EIGHT_TORSION.into_iter().skip(1) {
        let key = encoded(BASE * a + torsion);
        assert!(PublicKey(key).check().is_ok());
        for number in 0..64u32 {
            let message = number.to_le_bytes();
            let (h, h_mod_8) = challenge(&r, &key, &message);
            let signature = joined(r, (nonce + h * a).to_bytes());
            // The reduced challenge is what multiplies the key, its part of small order too.
            let cancels = torsion * Scalar::from(h_mod_8) == EdwardsPoint::identity();
            let verifies = PublicKey(key).verifies(&message, &signature);
            assert_eq!(verifies, cancels, "challenge is {h_mod_8} modulo 8");
            accepted += u32::from(verifies);
            refused += u32::from(!verifies);
        }
    }
    assert!(accepted > 40 && refused > 250, "{accepted} and {refused}");
}

/// An R with a part of small order never matches what an honest key's signature recovers, and
/// matches a key of mixed order exactly when both parts cancel.
#[test]
fn r_of_mixed_order_is_judged_without_the_cofactor() {
    let (a, nonce) = (scalar(b"a secret"), scalar(b"a nonce"));
    let mut cancelled = 0;
    for of_key in EIGHT_TORSION {
        let key = encoded(BASE * a + of_key);
        for of_r in EIGHT_TORSION.into_iter().skip(1) {
            let r = encoded(BASE * nonce + of_r);
            for number in 0..16u32 {
                let message = number.to_le_bytes();
                let (h, h_mod_8) = challenge(&r, &key, &message);
                let signature = joined(r, (nonce + h * a).to_bytes());
                let both = of_r + of_key * Scalar::from(h_mod_8);
                let cancels = both == EdwardsPoint::identity();
                assert_eq!(PublicKey(key).verifies(&message, &signature), cancels);
                cancelled += u32::from(cancels);
                let honest = of_key == EdwardsPoint::identity();
                assert!(
                    !(honest && cancels),
                    "an honest key has nothing to cancel with"
                );
            }
        }
    }
    assert!(cancelled > 40, "{cancelled}");
}

proptest! {
    /// S + L is the same scalar in a second encoding; it and every flipped bit are refused.
    #[test]
    fn signatures_have_one_encoding(
        seed: [u8; 32],
        message: Vec<u8>,
        bit in 0..512usize,
    ) {
        let key = SecretKey::from_seed(&seed);
        let good = key.sign_bytes(&message);
        prop_assert!(key.public().verifies(&message, &good));

        let (r, s) = good.split_at(32);
        let (r, s): ([u8; 32], [u8; 32]) = (r.try_into().unwrap(), s.try_into().unwrap());
        let mut shifted = s;
        // Up to fifteen times the order fits 256 bits.
        for _ in 0..15 {
            shifted = plus(shifted, L);
            prop_assert!(!key.public().verifies(&message, &joined(r, shifted)));
        }
        let mut flipped = good;
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!key.public().verifies(&message, &flipped));
    }

    /// Whatever the bytes: what verifies has a small S and is one that the key made.
    #[test]
    fn nobody_forges_by_chance(seed: [u8; 32], r: [u8; 32], s: [u8; 32]) {
        let key = SecretKey::from_seed(&seed).public();
        prop_assert!(!key.verifies(b"m", &joined(r, s)));
        let _ = PublicKey(r).check();
    }
}
