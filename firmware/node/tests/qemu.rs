//! The real firmware on QEMU's mps2-an386 with its emulated tmp105: greeting, stream, a
//! temperature set from outside, a host that vanishes and comes back, a board that resets.
//!
//! Needs qemu-system-arm and the firmware (`scripts/build-target mps2-an386`, or its path in
//! `DROVER_NODE_ELF`); says so and passes where one is missing, since the firmware is built by
//! another compiler for another machine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use drover_wire::node::{
    Decoder, Hello, MAX_FRAME, NodeDown, NodeUp, PROTO_VERSION, Pong, Samples, encode,
};

const BOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../boards/mps2-an386");
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_node_streams_what_its_sensor_measures() {
    let Some(board) = Board::start() else { return };

    let mut host = board.connect();
    let hello = host.hello();
    assert_eq!(hello.proto_version, PROTO_VERSION);
    assert_eq!(hello.board, "mps2-an386");
    assert_eq!(hello.channels, ["temperature_degc"]);

    board.set_temperature("36.625");
    host.welcome(1);
    host.until("the period in force", |host, up| match up {
        NodeUp::Pong(Pong { period_ms: 20, .. }) => Some(()),
        NodeUp::Pong(_) => {
            host.send(&NodeDown::Config { period_ms: 20 });
            host.ping(1);
            None
        }
        _ => None,
    });
    // The driver reads half degrees.
    host.until_degrees(36.5);
    board.set_temperature("-12");
    let seen = host.until_degrees(-12.0);
    assert_eq!(seen.sensor_errors, 0);

    // A hundred samples in a row, none lost while they are read (while set-temperature ran, some
    // may have been: QEMU's socket holds less than 300 bytes). A busy host delays single ones,
    // so only their mean distance says that the period holds.
    let mut run: Vec<Samples> = Vec::new();
    let bad_frames = host.decoder.bad_frames();
    host.until("a hundred samples", |_, up| {
        let NodeUp::Samples(samples) = up else {
            return None;
        };
        if let Some(last) = run.last() {
            assert_eq!(samples.seq, last.seq + 1);
            assert!(samples.t_us > last.t_us, "{samples:?} after {last:?}");
        }
        run.push(samples);
        (run.len() == 100).then_some(())
    });
    let mean_us = (run[99].t_us - run[0].t_us) / 99;
    assert!((15_000..100_000).contains(&mean_us), "{mean_us}");
    assert_eq!(host.decoder.bad_frames(), bad_frames);

    // The host restarts, and does not know the session.
    drop(host);
    let mut host = board.connect();
    host.ping(2);
    host.hello();
    host.welcome(2);
    assert_eq!(host.first_samples().seq, 0);

    // The board restarts: it greets again, and measures the same world.
    board.qmp("system_reset");
    host.session = None;
    host.hello();
    host.welcome(3);
    assert_eq!(host.until_degrees(-12.0).sensor_errors, 0);
}

/// A QEMU of its own; ends with the test.
struct Board {
    qemu: Child,
    folder: tempfile::TempDir,
}

impl Board {
    fn start() -> Option<Self> {
        let elf = std::env::var_os("DROVER_NODE_ELF").map_or_else(
            || {
                Path::new(env!("CARGO_TARGET_TMPDIR"))
                    .join("../thumbv7em-none-eabihf/release/drover-node-mps2-an386")
            },
            PathBuf::from,
        );
        if !elf.is_file() {
            println!(
                "skipped: no {}; run scripts/build-target mps2-an386",
                elf.display()
            );
            return None;
        }
        let version = Command::new("qemu-system-arm")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if version.is_err() {
            println!("skipped: no qemu-system-arm; install the Debian package of that name");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let qemu = Command::new(Path::new(BOARD).join("run-qemu"))
            .arg(folder.path().join("uart"))
            .arg(folder.path().join("qmp"))
            .arg(elf)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { qemu, folder })
    }

    fn open(&self, socket: &str) -> UnixStream {
        let deadline = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(self.folder.path().join(socket)) {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < deadline, "{socket}: {error}"),
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn connect(&self) -> Host {
        let line = self.open("uart");
        line.set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let decoder = Decoder::new();
        let session = None;
        Host {
            line,
            decoder,
            session,
        }
    }

    fn set_temperature(&self, degrees: &str) {
        drop(self.open("qmp"));
        let status = Command::new(Path::new(BOARD).join("set-temperature"))
            .arg(self.folder.path().join("qmp"))
            .arg(degrees)
            .status();
        assert!(status.unwrap().success());
    }

    fn qmp(&self, command: &str) {
        let mut qmp = self.open("qmp");
        qmp.set_read_timeout(Some(LIMIT)).unwrap();
        let request = |name| format!("{{\"execute\":\"{name}\"}}\n");
        qmp.write_all(request("qmp_capabilities").as_bytes())
            .unwrap();
        qmp.write_all(request(command).as_bytes()).unwrap();
        let mut replies = String::new();
        while replies.matches("\"return\"").count() < 2 {
            let mut part = [0; 1024];
            let len = qmp.read(&mut part).unwrap();
            assert!(len > 0, "QEMU closed its control socket after {replies}");
            replies.push_str(std::str::from_utf8(&part[..len]).unwrap());
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The agent's end of the line, as small as it can be.
struct Host {
    line: UnixStream,
    decoder: Decoder<NodeUp>,
    session: Option<u32>,
}

impl Host {
    fn send(&mut self, message: &NodeDown) {
        let mut buffer = [0; MAX_FRAME];
        self.line
            .write_all(encode(message, &mut buffer).unwrap())
            .unwrap();
    }

    fn welcome(&mut self, session: u32) {
        self.session = Some(session);
        let proto_version = PROTO_VERSION;
        self.send(&NodeDown::Welcome {
            proto_version,
            session,
        });
        self.ping(session);
    }

    fn ping(&mut self, session: u32) {
        self.send(&NodeDown::Ping { session, nonce: 0 });
    }

    /// Reads until `want` gives something; says what came last when it never does.
    fn until<T>(&mut self, what: &str, mut want: impl FnMut(&mut Self, NodeUp) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        let mut pinged = Instant::now();
        let mut buffer = [0; 256];
        loop {
            assert!(Instant::now() < deadline, "no {what}; last came {last:?}");
            let len = match self.line.read(&mut buffer) {
                Ok(len) => len,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
                Err(e) => panic!("no {what}: {e}; last came {last:?}"),
            };
            if let Some(session) = self.session
                && pinged.elapsed() > Duration::from_secs(1)
            {
                self.ping(session);
                pinged = Instant::now();
            }
            let mut bytes = &buffer[..len];
            let mut found = None;
            while let Some(up) = self.decoder.pull(&mut bytes) {
                last = Some(up.clone());
                if found.is_none() {
                    found = want(self, up);
                }
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    fn hello(&mut self) -> Hello {
        self.until("greeting", |_, up| match up {
            NodeUp::Hello(hello) => Some(hello),
            _ => None,
        })
    }

    fn first_samples(&mut self) -> Samples {
        self.until("sample", |_, up| match up {
            NodeUp::Samples(samples) => Some(samples),
            _ => None,
        })
    }

    fn until_degrees(&mut self, degrees: f32) -> Samples {
        self.until("sample of that temperature", |_, up| match up {
            NodeUp::Samples(samples) if samples.values == [degrees] => Some(samples),
            _ => None,
        })
    }
}
