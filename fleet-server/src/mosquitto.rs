//! Files with which mosquitto enforces what the embedded broker does.
//!
//! TLS 1.3, a certificate of the fleet's authority from everybody, and the name in it as user
//! name and client id, so that nobody can take another's session. Tested with mosquitto 2.0;
//! the same suite of permissions runs against both brokers.

use drover_api::{ConfigFile, MosquittoRequest};
use drover_trust::SecretKey;
use drover_wire::limits::MAX_PACKET_BYTES;
use drover_wire::topic;

use crate::http::Refusal;
use crate::operator::Actor;
use crate::state::Core;
use crate::store::Kind;
use crate::tls::{Issue, SERVER_SUBJECT, ed25519_pem};
use crate::{certificate, clock, random};

/// Subject of the broker's certificate: not the server's, whose name may use every topic.
const BROKER_SUBJECT: &str = "drover-broker";
/// Life of the broker's certificate, in seconds: a person has to replace it.
const BROKER_LIFE_SECS: u64 = 398 * 24 * 3600;
/// Most names of a broker.
const MAX_NAMES: usize = 16;

/// Makes the files, with a new key and certificate for the broker.
pub(crate) async fn files(
    core: &Core,
    actor: &Actor,
    request: &MosquittoRequest,
) -> Result<Vec<ConfigFile>, Refusal> {
    let is_name = |name: &String| {
        !name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.:_".contains(&b))
    };
    if request.names.is_empty() || request.names.len() > MAX_NAMES {
        return Err(Refusal::bad(format!(
            "names: give 1 to {MAX_NAMES} names or addresses of the broker"
        )));
    }
    if !request.names.iter().all(is_name) || request.port == 0 {
        return Err(Refusal::bad(
            "names are DNS names or addresses, and the port is 1 to 65535",
        ));
    }
    // It stands in lines of the configuration, where a line break would begin another.
    if request.folder.chars().any(char::is_control) || request.folder.contains('"') {
        return Err(Refusal::bad("folder: no control characters, no quotes"));
    }
    let secret = SecretKey::from_seed(&random::bytes()?);
    let issued = core.authority.issue(&Issue {
        kind: Kind::Server,
        subject: BROKER_SUBJECT,
        key: secret.public(),
        names: request.names.clone(),
        now_unix_s: clock::unix_s(),
        life_secs: BROKER_LIFE_SECS,
    })?;
    let entry = actor.entry("broker.certificate", request.names.join(" "));
    core.store.add_certificate_for(&issued.row, &entry).await?;
    let file = |name: &str, content: String| ConfigFile {
        name: name.to_owned(),
        content,
        secret: false,
    };
    Ok(vec![
        file("mosquitto.conf", configuration(request)),
        file("acl", permissions()),
        file("ca.pem", core.authority.pem().to_owned()),
        file("crl.pem", certificate::revocation_list(core).await?),
        file("server.pem", issued.pem),
        ConfigFile {
            secret: true,
            ..file("server.key", ed25519_pem(&secret))
        },
    ])
}

fn configuration(request: &MosquittoRequest) -> String {
    let MosquittoRequest { port, folder, .. } = request;
    let folder = folder.trim_end_matches('/');
    format!(
        "\
# Written by `drover broker config mosquitto`. After each `drover device revoke` write crl.pem
# anew (`drover broker crl -o {folder}/crl.pem`, or let the server write it there by
# `revocation_list`) and send mosquitto SIGHUP: it reads crl.pem and acl again without ending a
# session. The server itself ends the session of whoever was revoked.
# The certificate in server.pem ends after 398 days: write it anew before, and restart mosquitto.
listener {port}
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
crlfile {folder}/crl.pem
tls_version tlsv1.3
require_certificate true
# A device is who its certificate says, and nobody else can take its session.
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {folder}/acl
max_qos 1
max_packet_size {MAX_PACKET_BYTES}
# The broker keeps nothing: what is lost is sent again.
retain_available false
persistence false
persistent_client_expiration 1h
max_queued_messages 256
max_queued_bytes 4194304
sys_interval 0
"
    )
}

/// Each device its own topics, the server the other ends of them.
fn permissions() -> String {
    let (up, down, roots) = (topic::up("%u"), topic::down("%u"), topic::roots("%u"));
    let (all_up, any) = (topic::ALL_UP, "+");
    let (all_down, all_roots) = (topic::down(any), topic::roots(any));
    format!(
        "\
# Written by `drover broker config mosquitto`.
user {SERVER_SUBJECT}
topic read {all_up}
topic write {all_down}
topic write {all_roots}
topic write drover/v1/b/+

pattern write {up}
pattern read {down}
pattern read {roots}
pattern read drover/v1/b/+
"
    )
}
