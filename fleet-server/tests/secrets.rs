//! No secret shows in the log, however much of it is asked for: a server runs with every
//! trace written down while operators and a device send it all the secrets that there are.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "the rest of it is for other tests")]
#[path = "server/support.rs"]
mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use drover_api::{AddOperator, CreateApiToken, Login, OperatorRole, Secret, SetPassword};
use support::{Fleet, auto};

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_token_or_key_shows() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let mut fleet = Fleet::start().await;
    let bootstrap = fleet.config.data_dir.join("operator.token");
    let mut secrets = vec![
        std::fs::read_to_string(bootstrap)
            .unwrap()
            .trim()
            .to_owned(),
    ];
    let mut password = |text: &str| {
        secrets.push(text.to_owned());
        Secret::new(text)
    };
    let account = AddOperator {
        name: "alice".into(),
        role: OperatorRole::Admin,
        password: password("the first password of alice"),
    };
    let login = Login {
        name: "alice".into(),
        password: account.password.clone(),
    };
    let wrong = Login {
        name: "alice".into(),
        password: password("a password that is wrong"),
    };
    let change = SetPassword {
        password: password("the second password of alice"),
        current: Some(account.password.clone()),
    };
    let made = fleet.operate(move |c| {
        c.add_operator(&account).unwrap();
        let login = c.login(&login).unwrap();
        c.login(&wrong).unwrap_err();
        let token = c.create_api_token(&CreateApiToken {
            name: "t".into(),
            role: OperatorRole::Viewer,
            ttl_secs: 60,
        });
        let claims = c.create_tokens(&auto(1)).unwrap();
        (login.token, token.unwrap().token, claims)
    });
    let (login, token, claims) = made.await;
    let claim = claims[0].token.clone();
    for shown in [
        format!("{login:?}"),
        format!("{token:?}"),
        format!("{claims:?}"),
    ] {
        log.clone().write_all(shown.as_bytes()).unwrap();
    }
    let alice = fleet.client(login.reveal(), None);
    let changed = move || alice.set_operator_password("alice", &change).unwrap();
    tokio::task::spawn_blocking(changed).await.unwrap();
    let refused = fleet.client(token.reveal(), None);
    let refused = tokio::task::spawn_blocking(move || refused.operators().unwrap_err());
    let refused = refused.await.unwrap();
    log.clone()
        .write_all(format!("{refused:?}").as_bytes())
        .unwrap();
    fleet.enrol(30).await;
    fleet.claim(31, &claim).await;
    fleet.stop().await;

    for token in [login.reveal(), token.reveal(), &claim] {
        secrets.push(token.split_once('.').unwrap().1.to_owned());
    }
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(text.contains("TRACE") && text.contains("server stopped"));
    for secret in secrets {
        let at = text.find(&secret);
        assert!(
            at.is_none(),
            "{secret:?} shows: {:?}",
            at.map(|at| around(&text, at))
        );
    }
}

fn around(text: &str, at: usize) -> String {
    let line = text[..at].rfind('\n').map_or(0, |n| n + 1);
    text[line..].lines().next().unwrap_or_default().to_owned()
}
