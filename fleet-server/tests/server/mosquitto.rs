//! A mosquitto with the configuration that the server writes for it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use drover_api::MosquittoRequest;
use drover_server::BrokerConfig;

use crate::support::{Fleet, PATIENCE};

/// A broker of its own process, ended with the test.
pub(crate) struct Mosquitto {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    /// Makes it read its revocation list again.
    pub(crate) fn reload(&self) {
        let pid = self.process.id().to_string();
        let kill = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A fleet whose devices connect to a mosquitto; `None` where none is installed.
pub(crate) async fn fleet() -> Option<(Fleet, Mosquitto)> {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let program = program.into_iter().find(|path| Path::new(path).exists())?;
    // It takes no port 0, and somebody else may take the port that was free a moment ago.
    for _ in 0..5 {
        if let Some(started) = start(program).await {
            return Some(started);
        }
    }
    panic!("mosquitto found no free port");
}

async fn start(program: &str) -> Option<(Fleet, Mosquitto)> {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    // Started by root it gives its rights up, and reads its list again as somebody else.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, readable).unwrap();
    let list = path.join("crl.pem");
    let mut fleet = Fleet::start_with(|config| {
        let mut broker = BrokerConfig::external("127.0.0.1", port);
        if let BrokerConfig::External {
            revocation_list, ..
        } = &mut broker
        {
            *revocation_list = Some(list);
        }
        config.broker = broker;
    })
    .await;
    let request = MosquittoRequest {
        names: vec!["127.0.0.1".into()],
        port,
        folder: path.display().to_string(),
    };
    let files = fleet.operate(move |c| c.mosquitto(&request)).await.unwrap();
    for file in files {
        std::fs::write(path.join(file.name), file.content).unwrap();
    }
    let log = std::fs::File::create(path.join("log")).unwrap();
    let process = Command::new(program)
        .arg("-c")
        .arg(path.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut mosquitto = Mosquitto {
        process,
        _folder: folder,
    };
    let start = Instant::now();
    loop {
        if fleet.operate(|c| c.broker()).await.unwrap().connected {
            return Some((fleet, mosquitto));
        }
        let log = || std::fs::read_to_string(path.join("log")).unwrap();
        if mosquitto.process.try_wait().unwrap().is_some() {
            assert!(log().contains("Address already in use"), "{}", log());
            fleet.stop().await;
            return None;
        }
        assert!(start.elapsed() < PATIENCE, "no link; {}", log());
    }
}
