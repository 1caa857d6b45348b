//! The first packet of an MQTT connection: read whole, checked, and given other credentials.
//!
//! MQTT 3.1.1 and 5 are understood. Only the fields up to the client identity are looked at,
//! and user name and password are replaced; what lies between is copied as it came and left to
//! the broker, which parses it anyway.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Largest CONNECT that is read, in bytes; a last will of a few hundred bytes fits.
const MAX_CONNECT_BYTES: usize = 8 * 1024;

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL: u8 = 0x04;
const CONNECT: u8 = 0x10;

/// A CONNECT packet, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connect {
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub(super) level: u8,
    pub(super) client_id: String,
    flags: u8,
    /// Keep-alive and, for MQTT 5, properties.
    middle: Vec<u8>,
    /// Properties, topic and payload of the last will; empty without one.
    will: Vec<u8>,
}

impl Connect {
    /// Reads one packet; `None` when it is not a CONNECT of a version that is spoken, is
    /// too large, or the connection ends.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        if stream.read_u8().await.ok()? != CONNECT {
            return None;
        }
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            let byte = stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            if length > MAX_CONNECT_BYTES {
                return None;
            }
            if byte & 0x80 == 0 {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.ok()?;
                return Self::parse(&body);
            }
        }
        None
    }

    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.field()? != b"MQTT" {
            return None;
        }
        let level = reader.byte()?;
        let flags = reader.byte()?;
        if !matches!(level, 4 | 5) {
            return None;
        }
        let start = reader.0;
        reader.take(2)?;
        if level == 5 {
            reader.properties()?;
        }
        let middle = consumed(start, reader.0)?.to_vec();
        let client_id = String::from_utf8(reader.field()?.to_vec()).ok()?;
        let start = reader.0;
        if flags & WILL != 0 {
            if level == 5 {
                reader.properties()?;
            }
            reader.field()?;
            reader.field()?;
        }
        let will = consumed(start, reader.0)?.to_vec();
        // Whatever credentials come are thrown away, but they have to be all that is left.
        for flag in [USER_NAME, PASSWORD] {
            if flags & flag != 0 {
                reader.field()?;
            }
        }
        reader.0.is_empty().then_some(Self {
            level,
            client_id,
            flags,
            middle,
            will,
        })
    }

    /// The packet with other credentials; `None` when one of them is too long.
    pub(super) fn write_as(&self, user: &str, password: &str) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        write_field(&mut body, b"MQTT")?;
        body.push(self.level);
        body.push(self.flags | USER_NAME | PASSWORD);
        body.extend(&self.middle);
        write_field(&mut body, self.client_id.as_bytes())?;
        body.extend(&self.will);
        write_field(&mut body, user.as_bytes())?;
        write_field(&mut body, password.as_bytes())?;
        let mut packet = vec![CONNECT];
        let mut length = body.len();
        loop {
            let low = u8::try_from(length & 0x7f).ok()?;
            length >>= 7;
            packet.push(if length == 0 { low } else { low | 0x80 });
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        Some(packet)
    }

    /// The answer that says "not authorised" in the client's version.
    pub(super) fn refusal(&self) -> &'static [u8] {
        match self.level {
            5 => &[0x20, 3, 0, 0x87, 0],
            _ => &[0x20, 2, 0, 5],
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Bytes behind their 16-bit length.
    fn field(&mut self) -> Option<&'a [u8]> {
        let length = self.take(2)?.try_into().ok().map(u16::from_be_bytes)?;
        self.take(usize::from(length))
    }

    /// MQTT 5 properties behind their variable length.
    fn properties(&mut self) -> Option<()> {
        let mut length = 0usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return self.take(length).map(drop);
            }
        }
        None
    }
}

fn consumed<'a>(before: &'a [u8], after: &[u8]) -> Option<&'a [u8]> {
    before.get(..before.len().checked_sub(after.len())?)
}

fn write_field(body: &mut Vec<u8>, field: &[u8]) -> Option<()> {
    body.extend(u16::try_from(field.len()).ok()?.to_be_bytes());
    body.extend(field);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(level: u8, flags: u8, rest: &[&[u8]]) -> Vec<u8> {
        let mut body = b"\0\x04MQTT".to_vec();
        body.extend([level, flags, 0, 60]);
        rest.iter().for_each(|part| body.extend(*part));
        let mut packet = vec![CONNECT, u8::try_from(body.len()).unwrap()];
        packet.extend(body);
        packet
    }

    async fn read(bytes: &[u8]) -> Option<Connect> {
        Connect::read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn credentials_are_replaced_and_the_rest_is_kept() {
        // MQTT 3.1.1 with a will and a password of the client's own.
        let given = packet(
            4,
            0xc6,
            &[b"\0\x02id", b"\0\x01t", b"\0\x02hi", b"\0\x01u", b"\0\x01p"],
        );
        let connect = read(&given).await.unwrap();
        assert_eq!((connect.level, connect.client_id.as_str()), (4, "id"));
        let wanted = packet(
            4,
            0xc6,
            &[
                b"\0\x02id",
                b"\0\x01t",
                b"\0\x02hi",
                b"\0\x02id",
                b"\0\x01s",
            ],
        );
        assert_eq!(connect.write_as("id", "s").unwrap(), wanted);

        // MQTT 5 with properties, both of the connection and of the will, and none to replace.
        let given = packet(
            5,
            0x06,
            &[
                b"\x05\x11\0\0\0\x0a",
                b"\0\x02id",
                b"\x02\x01\x01",
                b"\0\x01t",
                b"\0\x02hi",
            ],
        );
        let connect = read(&given).await.unwrap();
        assert_eq!((connect.level, connect.client_id.as_str()), (5, "id"));
        let wanted = packet(
            5,
            0xc6,
            &[
                b"\x05\x11\0\0\0\x0a",
                b"\0\x02id",
                b"\x02\x01\x01",
                b"\0\x01t",
                b"\0\x02hi",
                b"\0\x02id",
                b"\0\x01s",
            ],
        );
        assert_eq!(connect.write_as("id", "s").unwrap(), wanted);
    }

    #[tokio::test]
    async fn what_is_long_is_framed_right_and_what_is_wrong_is_refused() {
        let given = packet(4, 2, &[b"\0\x02id"]);
        let connect = read(&given).await.unwrap();
        let long = connect.write_as("id", &"s".repeat(300)).unwrap();
        let again = read(&long).await.unwrap();
        assert_eq!(again.client_id, "id");
        assert!(connect.write_as("id", &"s".repeat(70_000)).is_none());
        for end in 0..given.len() {
            assert!(read(&given[..end]).await.is_none(), "{end} bytes");
        }
        let mut trailing = given.clone();
        trailing.push(0);
        trailing[1] += 1;
        assert!(read(&trailing).await.is_none());
        assert!(read(&packet(3, 2, &[b"\0\x02id"])).await.is_none());
        // A PUBLISH first, a packet of 256 MB, properties longer than the packet.
        assert!(read(&[0x30, 0]).await.is_none());
        assert!(read(&[CONNECT, 0xff, 0xff, 0xff, 0x7f]).await.is_none());
        assert!(read(&packet(5, 2, &[b"\x7f", b"\0\x02id"])).await.is_none());
    }
}
