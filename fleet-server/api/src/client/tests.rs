//! Tests of the client: its addresses, its errors, and the secrets that it hides.

use super::*;

#[test]
fn segments_cannot_leave_their_place() {
    assert_eq!(segment("../a b?c=1#d"), "..%2Fa%20b%3Fc%3D1%23d");
}

#[test]
fn neither_clients_nor_tokens_show_their_secret() {
    let client = Client::new("http://127.0.0.1:1", "hunter2");
    assert!(!format!("{client:?}").contains("hunter2"));
    let token = Token {
        token: "id.hunter2".into(),
        expires_unix_s: 1,
    };
    assert_eq!(format!("{token:?}"), "Token(id.…, until 1)");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = Client::new(&format!("http://{addr}/"), "t").status();
    let message = error.unwrap_err().to_string();
    assert!(message.contains(&addr.to_string()), "{message}");
}
