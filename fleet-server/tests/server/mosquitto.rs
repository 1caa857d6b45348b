//! A mosquitto with the configuration that the server writes for it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use drover_api::MosquittoRequest;
use drover_server::BrokerConfig;

use crate::support::Fleet;

/// A broker of its own process, ended with the test.
pub(crate) struct Mosquitto(Child);

impl Mosquitto {
    /// Makes it read its revocation list again.
    pub(crate) fn reload(&self) {
        let pid = self.0.id().to_string();
        let kill = Command::new("kill").args(["-HUP", &pid]).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A fleet whose devices connect to a mosquitto; `None` where none is installed.
pub(crate) async fn fleet() -> Option<(Fleet, Mosquitto)> {
    let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
    let program = program.into_iter().find(|path| Path::new(path).exists())?;
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let folder = tempfile::tempdir().unwrap().keep();
    let list = folder.join("crl.pem");
    let fleet = Fleet::start_with(|config| {
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
        folder: folder.display().to_string(),
    };
    let files = fleet.operate(move |c| c.mosquitto(&request)).await.unwrap();
    for file in files {
        std::fs::write(folder.join(file.name), file.content).unwrap();
    }
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let process = Command::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mosquitto = Mosquitto(process);
    fleet
        .until("the link", |c| c.broker().unwrap(), |b| b.connected)
        .await;
    Some((fleet, mosquitto))
}
