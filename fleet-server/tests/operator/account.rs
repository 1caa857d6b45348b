//! Accounts, roles and tokens.

use drover_api::{
    CertifyOperator, CreateApiToken, ErrorCode, OperatorRole, Secret, SetPassword, SetRole,
    TokenKind,
};

use crate::support::{Fleet, auto, key, pem_of, signed_bundle};
use crate::{PASSWORD, Person, account, log_in};

fn token(role: OperatorRole) -> CreateApiToken {
    CreateApiToken {
        name: "a program".into(),
        role,
        ttl_secs: 600,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_so_much_and_is_told_what_it_lacks() {
    let fleet = Fleet::start().await;
    let container = signed_bundle(1).encode().unwrap();
    for role in OperatorRole::ALL {
        let person = Person::new(&fleet, role.as_str(), role).await;
        let who = person.asks(|c| c.who_am_i()).await.unwrap();
        assert_eq!((who.account.as_str(), who.role), (role.as_str(), role));
        person.asks(|c| c.devices()).await.unwrap();
        let bytes = container.clone();
        let tried = [
            (
                OperatorRole::Operator,
                person.asks(|c| c.create_tokens(&auto(1)).map(drop)).await,
            ),
            (
                OperatorRole::Releaser,
                person
                    .asks(move |c| c.publish_release(&bytes).map(drop))
                    .await,
            ),
            (
                OperatorRole::Admin,
                person.asks(|c| c.operators().map(drop)).await,
            ),
        ];
        for (needed, done) in tried {
            if role >= needed {
                done.unwrap();
                continue;
            }
            let error = done.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::Forbidden), "{error}");
            let message = error.to_string();
            assert!(message.contains(&format!("the role {needed}")), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_no_more_than_its_maker_and_ends_with_it() {
    let fleet = Fleet::start().await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Releaser).await;
    let refused = alice
        .asks(|c| c.create_api_token(&token(OperatorRole::Admin)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Forbidden), "{refused}");

    let made = alice
        .asks(|c| c.create_api_token(&token(OperatorRole::Releaser)))
        .await
        .unwrap();
    assert!(made.token.reveal().starts_with("drover_"));
    assert_eq!(made.about.kind, TokenKind::Api);
    let program = Person::with(&fleet, made.token.reveal());
    let role = async || program.asks(|c| c.who_am_i()).await.map(|w| w.role);
    assert_eq!(role().await.unwrap(), OperatorRole::Releaser);

    // A lower role counts at once, a higher one does not grow the token.
    let set = async |role| {
        fleet
            .operate(move |c| c.set_operator_role("alice", &SetRole { role }))
            .await
            .unwrap();
    };
    set(OperatorRole::Viewer).await;
    assert_eq!(role().await.unwrap(), OperatorRole::Viewer);
    set(OperatorRole::Admin).await;
    assert_eq!(role().await.unwrap(), OperatorRole::Releaser);

    // A secret that is wrong by one letter, and one of another token.
    let shown = made.token.reveal().to_owned();
    let mut wrong = shown.clone();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    let (_, secret) = shown.split_once('.').unwrap();
    for wrong in [wrong, format!("drover_x.{secret}"), secret.to_owned()] {
        let stranger = Person::with(&fleet, &wrong);
        let refused = stranger.asks(|c| c.who_am_i()).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::Unauthorized));
    }

    // Nobody sees or ends another's tokens but an admin.
    let bob = Person::new(&fleet, "bob", OperatorRole::Operator).await;
    let seen = bob.asks(|c| c.api_tokens()).await.unwrap();
    assert!(seen.iter().all(|t| t.account == "bob"), "{seen:?}");
    let id = made.about.id.clone();
    let foreign = id.clone();
    let refused = bob.asks(move |c| c.revoke_api_token(&foreign)).await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::NotFound));
    role().await.unwrap();
    fleet
        .operate(move |c| c.revoke_api_token(&id))
        .await
        .unwrap();
    role().await.unwrap_err();

    // A closed account takes everything along, and what was closed stays so.
    fleet
        .operate(|c| c.set_operator_disabled("bob", true))
        .await
        .unwrap();
    bob.asks(|c| c.devices()).await.unwrap_err();
    log_in(&fleet, "bob", PASSWORD).await.unwrap_err();
    fleet
        .operate(|c| c.set_operator_disabled("bob", false))
        .await
        .unwrap();
    bob.asks(|c| c.devices()).await.unwrap_err();
    log_in(&fleet, "bob", PASSWORD).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_end_with_logout_and_with_the_password() {
    let fleet = Fleet::start().await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Operator).await;
    let program = alice
        .asks(|c| c.create_api_token(&token(OperatorRole::Viewer)))
        .await
        .unwrap();
    let change = |current: Option<&str>| SetPassword {
        password: Secret::new("another long password"),
        current: current.map(Secret::new),
    };
    for wrong in [change(None), change(Some("not the password"))] {
        let done = alice.asks(move |c| c.set_operator_password("alice", &wrong));
        assert_eq!(
            done.await.unwrap_err().code(),
            Some(ErrorCode::Unauthorized)
        );
    }
    let foreign = change(Some(PASSWORD));
    let done = alice.asks(move |c| c.set_operator_password("bob", &foreign));
    assert_eq!(done.await.unwrap_err().code(), Some(ErrorCode::Forbidden));
    let right = change(Some(PASSWORD));
    let done = alice.asks(move |c| c.set_operator_password("alice", &right));
    done.await.unwrap();
    alice.asks(|c| c.who_am_i()).await.unwrap_err();
    log_in(&fleet, "alice", PASSWORD).await.unwrap_err();
    let again = log_in(&fleet, "alice", "another long password").await;
    let again = Person::with(&fleet, &again.unwrap());
    // A program's token is of its own life.
    let program = Person::with(&fleet, program.token.reveal());
    program.asks(|c| c.who_am_i()).await.unwrap();

    let ended = again.asks(|c| c.logout()).await.unwrap();
    assert!(ended.revoked && ended.kind == TokenKind::Login);
    again.asks(|c| c.who_am_i()).await.unwrap_err();
    let bootstrap = Person::bootstrap(&fleet);
    bootstrap.asks(|c| c.logout()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_a_password_is_held_back() {
    let fleet = Fleet::start().await;
    Person::new(&fleet, "alice", OperatorRole::Admin).await;
    let mut last = None;
    for _ in 0..10 {
        last = log_in(&fleet, "alice", "wrong password").await.err();
    }
    // The login above counts, so that the tenth guess is one too many.
    assert_eq!(last.unwrap().code(), Some(ErrorCode::TooMany));
    let right = log_in(&fleet, "alice", PASSWORD).await.unwrap_err();
    assert_eq!(right.code(), Some(ErrorCode::TooMany), "{right}");
    let nobody = log_in(&fleet, "nobody", PASSWORD).await.unwrap_err();
    let message = "the name or the password is wrong";
    assert_eq!(nobody.to_string(), message, "it says who exists");
    let events = fleet.operate(|c| c.events(None, 100)).await.unwrap();
    let refused = events.iter().filter(|e| e.kind == "login-refused");
    assert_eq!(refused.count(), 10, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_make_no_sense_are_refused() {
    let fleet = Fleet::start().await;
    let add = async |name: &str, password: &str| {
        let mut request = account(name, OperatorRole::Viewer);
        request.password = Secret::new(password);
        fleet.operate(move |c| c.add_operator(&request)).await
    };
    for name in ["", "Alice", "oidc:alice", "bootstrap", "-a", "a b", "a/b"] {
        let error = add(name, PASSWORD).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::BadRequest), "{name:?}");
    }
    let short = add("alice", "short").await.unwrap_err();
    assert!(short.to_string().contains("12 to 1024 bytes"), "{short}");
    add("alice", PASSWORD).await.unwrap();
    let twice = add("alice", PASSWORD).await.unwrap_err();
    assert_eq!(twice.code(), Some(ErrorCode::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_has_the_role_of_its_account() {
    let fleet = Fleet::start().await;
    Person::new(&fleet, "alice", OperatorRole::Operator).await;
    let certify = async |name: &str| {
        let request = CertifyOperator {
            name: name.into(),
            public_key: data_encoding::HEXLOWER.encode(&key(77).public().0),
        };
        fleet.operate(move |c| c.certify_operator(&request)).await
    };
    let nobody = certify("nobody").await.unwrap_err();
    assert_eq!(nobody.code(), Some(ErrorCode::NotFound));
    let certificate = certify("alice").await.unwrap().certificate;
    let identity = (certificate.into_bytes(), pem_of(&key(77)).into_bytes());
    let alice = Person(fleet.client("", Some(identity)));
    let who = alice.asks(|c| c.who_am_i()).await.unwrap();
    assert_eq!(
        (who.account.as_str(), who.role, who.how.as_str()),
        ("alice", OperatorRole::Operator, "certificate")
    );
    alice.asks(|c| c.operators()).await.unwrap_err();
    fleet
        .operate(|c| c.set_operator_disabled("alice", true))
        .await
        .unwrap();
    let closed = alice.asks(|c| c.who_am_i()).await.unwrap_err();
    assert_eq!(closed.code(), Some(ErrorCode::Unauthorized));
}
