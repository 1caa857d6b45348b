//! MQTT topics. All of a fleet's topics start with `drover/v1/`.
//!
//! | topic | publishes | subscribes |
//! |---|---|---|
//! | `drover/v1/d/<device>/up` | that device | server |
//! | `drover/v1/d/<device>/down` | server | that device |
//! | `drover/v1/d/<device>/roots` | server | that device |
//! | `drover/v1/b/<bundle digest, hex>` | server | every device that fetches the bundle |

use alloc::format;
use alloc::string::String;

/// Filter by which a server hears all devices.
pub const ALL_UP: &str = "drover/v1/d/+/up";

/// From `device` to the server.
pub fn up(device: &str) -> String {
    format!("drover/v1/d/{device}/up")
}

/// From the server to `device`.
pub fn down(device: &str) -> String {
    format!("drover/v1/d/{device}/down")
}

/// Successors of the root that `device` trusts ([`crate::message::RootChain`]).
pub fn roots(device: &str) -> String {
    format!("drover/v1/d/{device}/roots")
}

/// Chunks of one bundle, published once for all devices that need them.
pub fn bundle(digest: &[u8; 32]) -> String {
    let mut topic = String::from("drover/v1/b/");
    for byte in digest {
        topic.push_str(&format!("{byte:02x}"));
    }
    topic
}

/// The device whose up topic this is.
pub fn device_of_up(topic: &str) -> Option<&str> {
    let device = topic.strip_prefix("drover/v1/d/")?.strip_suffix("/up")?;
    (!device.is_empty() && !device.contains('/')).then_some(device)
}

/// The bundle whose chunk topic this is.
pub fn digest_of_bundle(topic: &str) -> Option<[u8; 32]> {
    let hex = topic.strip_prefix("drover/v1/b/")?.as_bytes();
    if hex.len() != 64 {
        return None;
    }
    let mut digest = [0u8; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_chunks::<2>().0) {
        let [high, low] = pair.map(|c| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        });
        *byte = (high? << 4) | low?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_read_back() {
        assert_eq!(device_of_up(&up("abc")), Some("abc"));
        assert_eq!(device_of_up(&down("abc")), None);
        assert_eq!(device_of_up("drover/v1/d/a/b/up"), None);
        let digest = core::array::from_fn(|i| (i * 7) as u8);
        assert_eq!(digest_of_bundle(&bundle(&digest)), Some(digest));
        assert_eq!(digest_of_bundle("drover/v1/b/zz"), None);
    }
}
