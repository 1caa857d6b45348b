//! Operators of a running server, over real sockets: who gets in and how, what each role may
//! do, what the audit log keeps of it, and the second person that a rollout needs.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod account;
mod audit;
mod issuer;
mod oidc;
mod rollout;
#[expect(dead_code, reason = "the rest of it is for the tests beside this one")]
#[path = "../server/support.rs"]
mod support;

use drover_api::{AddOperator, ApiError, Client, Login, OperatorRole, Secret};

use crate::support::Fleet;

/// A password that is good enough.
const PASSWORD: &str = "correct horse battery staple";

/// A client of `fleet`, which blocks.
struct Person(Client);

impl Person {
    /// The token in the data folder.
    fn bootstrap(fleet: &Fleet) -> Self {
        Self(fleet.operator())
    }

    /// Whoever shows `token`.
    fn with(fleet: &Fleet, token: &str) -> Self {
        Self(fleet.client(token, None))
    }

    /// A new account that has logged in.
    async fn new(fleet: &Fleet, name: &str, role: OperatorRole) -> Self {
        let request = account(name, role);
        fleet
            .operate(move |c| c.add_operator(&request))
            .await
            .unwrap();
        let token = log_in(fleet, name, PASSWORD).await.unwrap();
        Self::with(fleet, &token)
    }

    async fn asks<T: Send + 'static>(&self, act: impl FnOnce(Client) -> T + Send + 'static) -> T {
        let client = self.0.clone();
        let done = tokio::task::spawn_blocking(move || act(client)).await;
        done.unwrap()
    }
}

fn account(name: &str, role: OperatorRole) -> AddOperator {
    AddOperator {
        name: name.into(),
        role,
        password: Secret::new(PASSWORD),
    }
}

/// Logs in; gives the token.
async fn log_in(fleet: &Fleet, name: &str, password: &str) -> Result<String, ApiError> {
    let login = Login {
        name: name.into(),
        password: Secret::new(password),
    };
    let stranger = Person::with(fleet, "");
    let token = stranger.asks(move |c| c.login(&login)).await?;
    Ok(token.token.reveal().to_owned())
}
