//! One client's connection: reads packets until it ends, and writes what it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode, UnsubAck,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Connection, Outgoing, State, lock};
use crate::clock;

/// Largest packet that is read, in bytes.
const MAX_PACKET: usize = 1 << 20;
/// Longest wait for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Lets everybody in, for ever.
pub(super) async fn accept(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    state: Arc<Mutex<State>>,
) {
    let acceptor = TlsAcceptor::from(config);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        {
            let mut state = lock(&state);
            state.attempts.push(clock::monotonic());
            if state.deaf {
                continue;
            }
        }
        let (acceptor, state) = (acceptor.clone(), state.clone());
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            if let Ok(Ok(stream)) = handshake {
                serve(stream, state).await;
            }
        });
    }
}

async fn serve(stream: TlsStream<TcpStream>, state: Arc<Mutex<State>>) {
    let (mut reader, writer) = tokio::io::split(stream);
    let mut buffer = BytesMut::new();
    let Some(Packet::Connect(connect)) = read(&mut reader, &mut buffer).await else {
        return;
    };
    let client = connect.client_id;
    let (out, orders) = unbounded_channel();
    let _ = out.send(Outgoing::Packet(Packet::ConnAck(ConnAck::new(
        ConnectReturnCode::Success,
        false,
    ))));
    let number = {
        let mut state = lock(&state);
        state.made += 1;
        let number = state.made;
        state.sessions.push(Connection {
            number,
            client: client.clone(),
            filters: Vec::new(),
            out: out.clone(),
        });
        number
    };
    let writing = tokio::spawn(write(writer, orders, state.clone()));
    tokio::pin!(writing);
    loop {
        let packet = tokio::select! {
            packet = read(&mut reader, &mut buffer) => packet,
            // Cut, or the client does not read any more.
            _ = &mut writing => None,
        };
        let Some(packet) = packet else { break };
        if handle(packet, number, &client, &out, &state).is_none() {
            break;
        }
    }
    writing.abort();
    lock(&state).sessions.retain(|s| s.number != number);
}

/// Answers a packet; `None` when the client says goodbye.
fn handle(
    packet: Packet,
    number: u64,
    client: &str,
    out: &UnboundedSender<Outgoing>,
    state: &Mutex<State>,
) -> Option<()> {
    let answer = match packet {
        Packet::Publish(publish) => {
            let ack = (publish.qos != QoS::AtMostOnce).then(|| PubAck::new(publish.pkid));
            lock(state).publish(client, publish.topic, publish.payload.to_vec());
            ack.map(Packet::PubAck)
        }
        Packet::Subscribe(subscribe) => {
            let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
            let codes = vec![granted; subscribe.filters.len()];
            let filters = subscribe.filters.into_iter().map(|f| f.path);
            with_session(state, number, |s| s.filters.extend(filters));
            Some(Packet::SubAck(SubAck::new(subscribe.pkid, codes)))
        }
        Packet::Unsubscribe(unsubscribe) => {
            with_session(state, number, |s| {
                s.filters.retain(|f| !unsubscribe.topics.contains(f));
            });
            Some(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)))
        }
        Packet::PingReq => Some(Packet::PingResp),
        Packet::Disconnect => return None,
        _ => None,
    };
    if let Some(packet) = answer {
        out.send(Outgoing::Packet(packet)).ok()?;
    }
    Some(())
}

fn with_session(state: &Mutex<State>, number: u64, act: impl FnOnce(&mut Connection)) {
    let mut state = lock(state);
    if let Some(session) = state.sessions.iter_mut().find(|s| s.number == number) {
        act(session);
    }
}

async fn read(
    reader: &mut ReadHalf<TlsStream<TcpStream>>,
    buffer: &mut BytesMut,
) -> Option<Packet> {
    loop {
        match Packet::read(buffer, MAX_PACKET) {
            Ok(packet) => return Some(packet),
            Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(_) => return None,
        }
        // Cancelling this loses nothing: what was read is in the buffer.
        if reader.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

async fn write(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    mut orders: UnboundedReceiver<Outgoing>,
    state: Arc<Mutex<State>>,
) {
    let mut packet_id = 0u16;
    while let Some(order) = orders.recv().await {
        let mut bytes = BytesMut::new();
        let (packet, pause) = match order {
            Outgoing::Cut => break,
            Outgoing::Packet(packet) => (packet, None),
            Outgoing::Publish { topic, payload } => {
                let drip = lock(&state).drip.clone();
                let pause = drip.filter(|(t, _)| *t == topic).map(|(_, pause)| pause);
                packet_id = packet_id.checked_add(1).unwrap_or(1);
                let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
                publish.pkid = packet_id;
                (Packet::Publish(publish), pause)
            }
        };
        if packet.write(&mut bytes, MAX_PACKET).is_err() {
            continue;
        }
        // Byte by byte for as long as the drip is on.
        while !bytes.is_empty() {
            let dripping = pause.filter(|_| lock(&state).drip.is_some());
            let piece = match dripping {
                Some(pause) => {
                    tokio::time::sleep(pause).await;
                    bytes.split_to(1)
                }
                None => bytes.split(),
            };
            let written = writer.write_all(&piece).await;
            if written.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    }
    let _ = writer.shutdown().await;
}
