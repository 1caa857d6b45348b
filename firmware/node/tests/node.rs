//! The node's state machine against a scripted host, with a simulated bus and a simulated clock.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sim_i2c;

use std::{cell::RefCell, rc::Rc};

use drover_node::{
    Event, Fault, Identity, Node, Sensor, Sink,
    lm75::Thermometer,
    node::{HELLO_EVERY_US, HOST_SILENCE_US, MAX_PERIOD_MS, MIN_PERIOD_MS},
};
use drover_wire::node::{
    Decoder, Level, MAX_FRAME, NodeDown, NodeUp, PROTO_VERSION, Pong, Samples, encode,
};
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use proptest::{collection::vec, prelude::*};
use sim_i2c::{SimError, SimI2c, Trouble};

/// The bus, held by the driver and by the test.
#[derive(Clone)]
struct Shared(Rc<RefCell<SimI2c>>);

impl ErrorType for Shared {
    type Error = SimError;
}

impl I2c for Shared {
    fn transaction(&mut self, address: u8, ops: &mut [Operation<'_>]) -> Result<(), SimError> {
        self.0.borrow_mut().transaction(address, ops)
    }
}

#[derive(Default)]
struct Line {
    decoder: Decoder<NodeUp>,
    came: Vec<NodeUp>,
}

impl Sink for Line {
    fn send(&mut self, mut frame: &[u8]) {
        assert!(frame.len() <= MAX_FRAME && frame.last() == Some(&0));
        while let Some(message) = self.decoder.pull(&mut frame) {
            self.came.push(message);
        }
    }
}

struct Rig {
    node: Node<Thermometer<Shared>>,
    bus: Shared,
    line: Line,
    now_us: u64,
}

impl Rig {
    fn new() -> Self {
        let bus = Shared(Rc::new(RefCell::new(SimI2c::lm75(21.5))));
        let identity = Identity {
            uid: [7; 8],
            board: "a-board-with-a-name-longer-than-a-label-holds",
            fw_version: "1.2.3",
        };
        Self {
            node: Node::new(identity, Thermometer::new(bus.clone())),
            bus,
            line: Line::default(),
            now_us: 0,
        }
    }

    fn tell(&mut self, message: &NodeDown) -> Vec<NodeUp> {
        let mut buffer = [0; MAX_FRAME];
        let frame = encode(message, &mut buffer).unwrap();
        self.node
            .on(self.now_us, Event::Received(frame), &mut self.line);
        std::mem::take(&mut self.line.came)
    }

    /// Lets `us` pass in steps of a millisecond.
    fn pass(&mut self, us: u64) -> Vec<NodeUp> {
        for _ in 0..us / 1000 {
            self.now_us += 1000;
            self.node.on(self.now_us, Event::Tick, &mut self.line);
        }
        std::mem::take(&mut self.line.came)
    }

    fn welcome(&mut self, session: u32) -> Vec<NodeUp> {
        let proto_version = PROTO_VERSION;
        self.tell(&NodeDown::Welcome {
            proto_version,
            session,
        })
    }

    fn ping(&mut self, session: u32) -> Vec<NodeUp> {
        self.tell(&NodeDown::Ping { session, nonce: 9 })
    }
}

fn samples(messages: &[NodeUp]) -> Vec<Samples> {
    let only = |m: &NodeUp| match m {
        NodeUp::Samples(samples) => Some(samples.clone()),
        _ => None,
    };
    messages.iter().filter_map(only).collect()
}

fn is_one_hello(messages: &[NodeUp]) -> bool {
    matches!(messages, [NodeUp::Hello(_)])
}

#[test]
fn greets_until_welcomed_then_streams_from_zero() {
    let mut rig = Rig::new();
    let greetings = rig.pass(4 * HELLO_EVERY_US);
    assert_eq!(greetings.len(), 4);
    let Some(NodeUp::Hello(hello)) = greetings.first() else {
        panic!("{greetings:?}")
    };
    assert_eq!(
        hello.board, "a-board-with-a-name-long",
        "cut at the label's length"
    );
    assert_eq!(hello.channels, ["temperature_degc"]);

    assert!(rig.welcome(1).is_empty());
    let stream = samples(&rig.pass(1_000_000));
    assert_eq!(stream.len(), 11, "one at once, then ten a second");
    for (index, sample) in stream.iter().enumerate() {
        assert_eq!(sample.seq as usize, index);
        assert_eq!(sample.values, [21.5]);
        assert_eq!(sample.sensor_errors, 0);
    }
    assert!(
        stream[1..]
            .windows(2)
            .all(|w| w[1].t_us - w[0].t_us == 100_000)
    );
}

#[test]
fn a_host_of_another_version_is_not_streamed_to() {
    let mut rig = Rig::new();
    rig.tell(&NodeDown::Welcome {
        proto_version: PROTO_VERSION + 1,
        session: 1,
    });
    let came = rig.pass(HELLO_EVERY_US);
    assert!(is_one_hello(&came), "{came:?}");
}

#[test]
fn a_repeated_welcome_changes_nothing_and_a_new_one_restarts() {
    let mut rig = Rig::new();
    rig.welcome(1);
    rig.pass(500_000);
    rig.welcome(1);
    assert_eq!(samples(&rig.pass(100_000))[0].seq, 6);
    rig.welcome(2);
    assert_eq!(samples(&rig.pass(100_000))[0].seq, 0);
}

#[test]
fn a_silent_host_is_greeted_again() {
    let mut rig = Rig::new();
    rig.welcome(1);
    rig.pass(HOST_SILENCE_US / 2);
    // A ping in time keeps the session.
    assert!(matches!(
        rig.ping(1)[..],
        [NodeUp::Pong(Pong { nonce: 9, .. })]
    ));
    rig.pass(HOST_SILENCE_US - 1000);
    let came = rig.pass(1000);
    assert!(is_one_hello(&came), "{came:?}");
}

#[test]
fn a_restarted_host_is_greeted_at_once() {
    let mut rig = Rig::new();
    rig.welcome(1);
    rig.pass(250_000);
    let came = rig.ping(2);
    assert!(is_one_hello(&came), "{came:?}");
    assert!(samples(&rig.pass(HELLO_EVERY_US)).is_empty());
}

#[test]
fn the_period_is_clamped_reported_and_in_force_at_once() {
    let mut rig = Rig::new();
    rig.welcome(1);
    for (asked, in_force) in [(0, MIN_PERIOD_MS), (u32::MAX, MAX_PERIOD_MS), (50, 50)] {
        rig.tell(&NodeDown::Config { period_ms: asked });
        let came = rig.ping(1);
        assert!(
            matches!(came[..], [NodeUp::Pong(Pong { period_ms, .. })] if period_ms == in_force),
            "asked for {asked}: {came:?}"
        );
        // Takes the node into the grid of this period, however long.
        rig.pass(1000);
    }
    assert_eq!(samples(&rig.pass(1_000_000)).len(), 20);
}

#[test]
fn after_a_hold_up_the_missed_samples_are_left_out() {
    let mut rig = Rig::new();
    rig.welcome(1);
    rig.pass(100_000);
    rig.now_us += 1_050_000;
    let late = samples(&rig.pass(300_000));
    assert!((3..=4).contains(&late.len()), "{late:?}");
    assert_eq!(late[0].seq, 2, "the gap is in the time, not in the numbers");
}

#[test]
fn faults_are_counted_and_told_once_each_way() {
    for (trouble, fault) in [
        (Trouble::Nack, Fault::NoAnswer),
        (Trouble::Stuck, Fault::Bus),
    ] {
        let mut rig = Rig::new();
        rig.welcome(1);
        rig.pass(200_000);
        rig.bus.0.borrow_mut().trouble = Some(trouble);
        let came = rig.pass(500_000);
        let bad = samples(&came);
        assert_eq!(bad.len(), 5);
        assert!(
            bad.iter()
                .all(|s| s.values.len() == 1 && s.values[0].is_nan())
        );
        assert_eq!(bad.last().map(|s| s.sensor_errors), Some(5));
        let logs: Vec<_> = came
            .iter()
            .filter(|m| matches!(m, NodeUp::Log(_)))
            .collect();
        assert!(
            matches!(logs[..], [NodeUp::Log(log)] if log.level == Level::Warn && log.text == fault.text()),
            "{logs:?}"
        );

        rig.bus.0.borrow_mut().trouble = None;
        rig.bus.0.borrow_mut().set_degrees(-40.0);
        let came = rig.pass(200_000);
        assert!(
            matches!(&came[0], NodeUp::Log(log) if log.level == Level::Info),
            "{came:?}"
        );
        let good = samples(&came);
        assert!(
            good.iter()
                .all(|s| s.values == [-40.0] && s.sensor_errors == 5),
            "{good:?}"
        );
    }
}

#[test]
fn the_adapter_reads_the_whole_range() {
    let bus = Shared(Rc::new(RefCell::new(SimI2c::lm75(0.0))));
    let mut sensor = Thermometer::new(bus.clone());
    for degrees in [-55.0, -0.5, 0.0, 0.5, 36.5, 125.0] {
        bus.0.borrow_mut().set_degrees(degrees);
        let mut values = [f32::NAN];
        sensor.read(&mut values).unwrap();
        assert_eq!(values, [degrees]);
    }
}

#[derive(Debug, Clone)]
enum Action {
    Pass(u64),
    Tell(NodeDown),
    Noise(Vec<u8>),
}

fn action() -> impl Strategy<Value = Action> {
    let session = 0..3_u32;
    prop_oneof![
        3 => (1..800_u64).prop_map(|ms| Action::Pass(ms * 1000)),
        2 => (0..=PROTO_VERSION, session.clone()).prop_map(|(proto_version, session)| {
            Action::Tell(NodeDown::Welcome { proto_version, session })
        }),
        1 => any::<u32>().prop_map(|period_ms| Action::Tell(NodeDown::Config { period_ms })),
        2 => (session, any::<u32>())
            .prop_map(|(session, nonce)| Action::Tell(NodeDown::Ping { session, nonce })),
        1 => vec(any::<u8>(), 0..600).prop_map(Action::Noise),
    ]
}

proptest! {
    /// Whatever a host does: numbers count up by one or start at zero, time never steps back,
    /// and a host that then behaves gets its stream.
    #[test]
    fn any_host_gets_a_consistent_stream(actions in vec(action(), 0..40)) {
        let mut rig = Rig::new();
        let mut came = Vec::new();
        for action in actions {
            came.extend(match action {
                Action::Pass(us) => rig.pass(us),
                Action::Tell(message) => rig.tell(&message),
                Action::Noise(bytes) => {
                    rig.node.on(rig.now_us, Event::Received(&bytes), &mut rig.line);
                    rig.node.on(rig.now_us, Event::Received(&[0]), &mut rig.line);
                    std::mem::take(&mut rig.line.came)
                }
            });
        }
        let stream = samples(&came);
        for pair in stream.windows(2) {
            prop_assert!(pair[1].seq == pair[0].seq + 1 || pair[1].seq == 0);
            prop_assert!(pair[1].t_us > pair[0].t_us);
        }
        rig.tell(&NodeDown::Config { period_ms: 10 });
        rig.welcome(99);
        let stream = samples(&rig.pass(100_000));
        prop_assert_eq!(stream.len(), 11);
        prop_assert_eq!(stream[0].seq, 0);
    }
}
