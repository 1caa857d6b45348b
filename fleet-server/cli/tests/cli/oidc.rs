//! `drover login --oidc` from end to end: a server, a small issuer in this process, and this
//! test in place of the browser.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use data_encoding::BASE64URL_NOPAD;
use drover_trust::SecretKey;
use serde_json::{Value, json};

use crate::drover::{drover_with, keys};
use crate::server::Server;

/// An issuer that lets one person in, whoever asks.
struct Issuer {
    url: String,
    /// What the browser was sent with, which the ID token repeats.
    nonce: Arc<Mutex<String>>,
}

impl Issuer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let nonce = Arc::new(Mutex::new(String::new()));
        let issuer = Self {
            url: url.clone(),
            nonce: nonce.clone(),
        };
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let nonce = nonce.lock().unwrap().clone();
                answer(stream.unwrap(), &url, &nonce);
            }
        });
        issuer
    }
}

fn answer(mut stream: TcpStream, url: &str, nonce: &str) {
    let key = SecretKey::from_seed(&[9; 32]);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    reader.read_line(&mut request).unwrap();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = match request.split(' ').nth(1).unwrap() {
        "/keys" => json!({ "keys": [{
            "kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(&key.public().0),
        }] }),
        "/token" => json!({ "id_token": id_token(&key, url, nonce) }),
        _ => json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/keys"),
        }),
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).unwrap();
}

fn id_token(key: &SecretKey, url: &str, nonce: &str) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = json!({
        "iss": url, "sub": "jane-1", "aud": "drover", "exp": 4_000_000_000_u64, "nonce": nonce,
        "realm": { "roles": ["fleet"] }, "email": "jane@example.com",
    });
    let message = format!("{}.{}", part(json!({ "alg": "EdDSA" })), part(claims));
    let signature = key.sign_bytes(message.as_bytes());
    format!("{message}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// `drover login --oidc`, under way; ended when dropped.
struct Login(Child);

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Login {
    fn start(server: &Server, home: &Path, ca: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drover"));
        command
            .args(["login", "--oidc", "--server", &server.url, "--ca", ca])
            .env("XDG_CONFIG_HOME", home)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// The page that it asks the person to open.
    fn page(&mut self) -> String {
        let stderr = BufReader::new(self.0.stderr.as_mut().unwrap());
        let mut lines = stderr.lines().map(Result::unwrap);
        lines.find(|line| line.starts_with("http")).unwrap()
    }
}

/// What the browser brings to `target` on the loopback listener; gives the page it gets.
fn browse(address: &str, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

#[test]
fn a_browser_logs_a_person_in() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let issuer = Issuer::start();
    let flags = [
        "--oidc-issuer",
        &issuer.url,
        "--oidc-client-id",
        "drover",
        "--oidc-role-claim",
        "realm.roles",
        "--oidc-role",
        "operator=fleet",
    ];
    let server = Server::start_with(folder.path(), &flags);
    let ca = folder.path().join("data/ca.pem").display().to_string();
    let home = folder.path().join("home");
    let mut login = Login::start(&server, &home, &ca);
    let page = login.page();
    let (_, query) = page.split_once('?').unwrap();
    let query: HashMap<&str, &str> = query.split('&').filter_map(|p| p.split_once('=')).collect();
    query["nonce"].clone_into(&mut issuer.nonce.lock().unwrap());
    let back = query["redirect_uri"]
        .replace("%3A", ":")
        .replace("%2F", "/");
    let address = back.trim_start_matches("http://").trim_end_matches('/');

    // A page that is not the one that was asked for changes nothing.
    assert!(browse(address, "/?code=evil&state=guess").starts_with("HTTP/1.1 404"));
    assert!(browse(address, "/favicon.ico").starts_with("HTTP/1.1 404"));
    let state = query["state"];
    let page = browse(address, &format!("/?code=c&state={state}"));
    assert!(page.contains("You may close this page"), "{page}");

    let mut said = String::new();
    login
        .0
        .stdout
        .as_mut()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(login.0.wait().unwrap().success(), "{said}");
    assert!(
        said.contains("as oidc:jane-1 with the role operator"),
        "{said}"
    );
    let who = ["whoami", "--server", &server.url];
    let who = drover_with("XDG_CONFIG_HOME", &home, who).ok();
    assert!(who.contains("account\toidc:jane-1"), "{who}");
    let listed = server.ask(["audit", "list"]).ok();
    let how = format!("\toidc:jane-1\toperator\tissuer {}\tlogin\t", issuer.url);
    assert!(listed.contains(&how), "{listed}");
}
