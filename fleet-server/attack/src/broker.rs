//! The attacker's broker: it has taken the place of the fleet's own, with a certificate that
//! the fleet's authority signed, and does with messages whatever a row wants.
//!
//! It lets every client in, delivers what a real broker would, keeps a copy of everything, and
//! hands each message to a rule that may drop it or put others in its place. Rows can add
//! messages of their own on any topic. Speaks MQTT 3.1.1, with rumqttc's codec.

mod session;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::{self, Look, wait};
use crate::error::{Result, io};

pub(crate) use tls::client_config;

/// A message on its way through the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Client that published it; empty for the attacker's own.
    pub(crate) from: String,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) at: Instant,
}

/// What becomes of a message.
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// These are delivered in its place: topics and payloads, none to many.
    Instead(Vec<(String, Vec<u8>)>),
}

/// Decides about each message.
pub(crate) type Rule = Box<dyn FnMut(&Message) -> Verdict + Send>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Broker {
    state: Arc<Mutex<State>>,
    addr: SocketAddr,
}

#[derive(Default)]
struct State {
    sessions: Vec<Connection>,
    /// Sessions ever made, which numbers them.
    made: u64,
    /// Times of connections, refused ones too.
    attempts: Vec<Instant>,
    log: Vec<Message>,
    rule: Option<Rule>,
    /// Nothing but the attacker's own gets through here.
    jammed: Option<String>,
    /// New connections are cut at once.
    deaf: bool,
    /// Pause before each byte that goes to a client, by topic of the message.
    drip: Option<(String, Duration)>,
}

struct Connection {
    number: u64,
    client: String,
    filters: Vec<String>,
    out: UnboundedSender<Outgoing>,
}

/// What a session's writer is told.
enum Outgoing {
    Publish { topic: String, payload: Vec<u8> },
    Packet(rumqttc::Packet),
    Cut,
}

impl Broker {
    /// Takes a port; nothing is accepted before [`Self::open`].
    pub(crate) fn bind() -> Result<(std::net::TcpListener, SocketAddr)> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let listener = io(|| "listen on loopback".into(), listener)?;
        let addr = io(|| "listen on loopback".into(), listener.local_addr())?;
        Ok((listener, addr))
    }

    /// Starts on a port that was bound, with a certificate of the authority in this folder of
    /// the server.
    pub(crate) fn open(
        runtime: &Runtime,
        listener: std::net::TcpListener,
        server_data: &Path,
        fleet: &str,
    ) -> Result<Self> {
        let config = tls::server_config(server_data, fleet)?;
        let what = || "listen on loopback".to_owned();
        io(what, listener.set_nonblocking(true))?;
        let addr = io(what, listener.local_addr())?;
        let _inside = runtime.enter();
        let listener = io(what, tokio::net::TcpListener::from_std(listener))?;
        let state = Arc::new(Mutex::new(State::default()));
        runtime.spawn(session::accept(listener, config, state.clone()));
        Ok(Self { state, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything as at the start: no clients, no rule, nothing seen.
    pub(crate) fn reset(&self) {
        let mut state = self.lock();
        for session in state.sessions.drain(..) {
            // Its writer may have ended already.
            let _ = session.out.send(Outgoing::Cut);
        }
        let made = state.made;
        *state = State {
            made,
            ..State::default()
        };
    }

    /// What becomes of messages from now on.
    pub(crate) fn set_rule(&self, rule: impl FnMut(&Message) -> Verdict + Send + 'static) {
        self.lock().rule = Some(Box::new(rule));
    }

    /// Nothing but the attacker's own gets through on this topic.
    pub(crate) fn jam(&self, topic: Option<String>) {
        self.lock().jammed = topic;
    }

    /// Messages pass again.
    pub(crate) fn clear_rule(&self) {
        let mut state = self.lock();
        state.rule = None;
        state.jammed = None;
    }

    /// Delivers a message of the attacker's own.
    pub(crate) fn inject(&self, topic: &str, payload: Vec<u8>) {
        self.lock().deliver(topic, &payload);
    }

    /// Ends the connections of a client.
    pub(crate) fn cut(&self, client: &str) {
        let state = self.lock();
        for session in state.sessions.iter().filter(|s| s.client == client) {
            let _ = session.out.send(Outgoing::Cut);
        }
    }

    /// Whether new connections are refused.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    /// Messages on `topic` go out byte by byte, with this pause before each.
    pub(crate) fn drip(&self, topic: &str, pause: Duration) {
        self.lock().drip = Some((topic.to_owned(), pause));
    }

    /// Full speed again, for messages that are not under way yet.
    pub(crate) fn stop_drip(&self) {
        self.lock().drip = None;
    }

    /// Whether somebody listens on this topic.
    pub(crate) fn is_heard(&self, topic: &str) -> bool {
        let state = self.lock();
        let mut filters = state.sessions.iter().flat_map(|s| &s.filters);
        filters.any(|f| matches(f, topic))
    }

    /// When somebody tried to connect, in vain or not.
    pub(crate) fn attempts(&self) -> Vec<Instant> {
        self.lock().attempts.clone()
    }

    /// How many messages were seen so far: where to look on from.
    pub(crate) fn mark(&self) -> usize {
        self.lock().log.len()
    }

    /// What was seen since a mark.
    pub(crate) fn seen(&self, mark: usize) -> Vec<Message> {
        let state = self.lock();
        state.log.get(mark..).unwrap_or_default().to_vec()
    }

    /// Waits for a message that `pick` takes, seen since a mark.
    pub(crate) fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mark: usize,
        mut pick: impl FnMut(&Message) -> Option<T>,
    ) -> Result<T> {
        let mut next = mark;
        wait(what, patience, || {
            let new = self.seen(next);
            next += new.len();
            Ok(match new.iter().find_map(&mut pick) {
                Some(found) => Look::Ready(found),
                None => Look::NotYet(format!("{} messages, none of that kind", next - mark)),
            })
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// A client published something.
    fn publish(&mut self, from: &str, topic: String, payload: Vec<u8>) {
        let message = Message {
            from: from.to_owned(),
            topic,
            payload,
            at: clock::monotonic(),
        };
        self.log.push(message.clone());
        if self.jammed.as_ref() == Some(&message.topic) {
            return;
        }
        let verdict = self.rule.as_mut().map_or(Verdict::Pass, |r| r(&message));
        match verdict {
            Verdict::Pass => self.deliver(&message.topic, &message.payload),
            Verdict::Drop => {}
            Verdict::Instead(messages) => {
                for (topic, payload) in messages {
                    self.deliver(&topic, &payload);
                }
            }
        }
    }

    fn deliver(&self, topic: &str, payload: &[u8]) {
        for session in &self.sessions {
            if session.filters.iter().any(|f| matches(f, topic)) {
                let _ = session.out.send(Outgoing::Publish {
                    topic: topic.to_owned(),
                    payload: payload.to_vec(),
                });
            }
        }
    }
}

/// Whether a topic filter takes a topic.
fn matches(filter: &str, topic: &str) -> bool {
    rumqttc::matches(topic, filter)
}
