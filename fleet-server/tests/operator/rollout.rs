//! Attack row F5: an insider or a slip of the hand. A rollout needs a second person where the
//! fleet says so, and never begins with more than a share of the fleet.

use drover_api::{
    CreateRollout, CreateTokens, ErrorCode, OperatorRole, Policy, RolloutState, Selector, Stage,
    Strategy,
};

use crate::Person;
use crate::support::{Fleet, auto, signed_bundle};

fn everyone() -> CreateRollout {
    CreateRollout {
        release: "pump".into(),
        selector: Selector::default(),
        strategy: Strategy::AllAtOnce,
        policy: Policy::default(),
        approval: false,
    }
}

async fn publish(fleet: &Fleet) {
    let container = signed_bundle(1).encode().unwrap();
    let done = fleet.operate(move |c| c.publish_release(&container)).await;
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_waits_for_somebody_else() {
    let fleet = Fleet::start_with(|config| config.require_approval = true).await;
    publish(&fleet).await;
    fleet.enrol(30).await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Admin).await;
    let bob = Person::new(&fleet, "bob", OperatorRole::Operator).await;
    let created = alice.asks(|c| c.create_rollout(&everyone())).await.unwrap();
    assert_eq!(created.state, RolloutState::Waiting);
    assert_eq!(
        (created.created_by.as_str(), created.counts.total),
        ("alice", 1)
    );

    // Neither herself nor a token of hers, whatever her role.
    let own = drover_api::CreateApiToken {
        name: "mine".into(),
        role: OperatorRole::Operator,
        ttl_secs: 600,
    };
    let token = alice.asks(move |c| c.create_api_token(&own)).await.unwrap();
    for person in [&alice, &Person::with(&fleet, token.token.reveal())] {
        let error = person.asks(|c| c.approve_rollout("r1")).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Forbidden));
        assert!(error.to_string().contains("somebody else"), "{error}");
    }
    let waiting = bob.asks(|c| c.rollout("r1")).await.unwrap();
    assert_eq!(
        (waiting.state, waiting.counts.pending),
        (RolloutState::Waiting, 1)
    );

    let approved = bob.asks(|c| c.approve_rollout("r1")).await.unwrap();
    assert_eq!(approved.approved_by.as_deref(), Some("bob"));
    fleet
        .until(
            "the assignment",
            |c| c.rollout("r1").unwrap(),
            |r| r.state == RolloutState::Active && r.counts.updating == 1,
        )
        .await;
    let twice = bob.asks(|c| c.approve_rollout("r1")).await.unwrap_err();
    assert_eq!(twice.code(), Some(ErrorCode::Conflict));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_rollout_can_ask_for_it_and_an_overtaken_one_is_over() {
    let fleet = Fleet::start().await;
    publish(&fleet).await;
    let alice = Person::new(&fleet, "alice", OperatorRole::Operator).await;
    let asking = CreateRollout {
        approval: true,
        ..everyone()
    };
    let first = alice
        .asks(move |c| c.create_rollout(&asking))
        .await
        .unwrap();
    assert_eq!(first.state, RolloutState::Waiting);
    let second = alice.asks(|c| c.create_rollout(&everyone())).await.unwrap();
    assert_ne!(second.state, RolloutState::Waiting);
    let bootstrap = Person::bootstrap(&fleet);
    let error = bootstrap
        .asks(|c| c.approve_rollout("r1"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Conflict));
    assert!(error.to_string().contains("r2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn most_of_a_fleet_never_comes_first() {
    let fleet = Fleet::start_with(|config| config.free_unstaged_devices = 1).await;
    publish(&fleet).await;
    for n in 30..40 {
        fleet.enrol(n).await;
    }
    let error = fleet.operate(|c| c.create_rollout(&everyone())).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Forbidden), "{error}");
    let message = error.to_string();
    assert!(
        message.contains("10 of the fleet's 10 devices"),
        "{message}"
    );
    assert!(message.contains("--stage 1 --stage 2"), "{message}");
    assert!(fleet.operate(|c| c.rollouts()).await.unwrap().is_empty());

    // Nor in slices.
    let slice = |devices: [&str; 2]| CreateRollout {
        selector: Selector {
            devices: devices.map(Into::into).into(),
            ..Selector::default()
        },
        ..everyone()
    };
    let first = slice(["device-30", "device-31"]);
    fleet
        .operate(move |c| c.create_rollout(&first))
        .await
        .unwrap();
    let again = slice(["device-30", "device-31"]);
    fleet
        .operate(move |c| c.create_rollout(&again))
        .await
        .unwrap();
    let second = slice(["device-32", "device-33"]);
    let error = fleet.operate(move |c| c.create_rollout(&second)).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("reaches 4 of the fleet's 10"), "{error}");

    // Nor by an approval that came before the devices.
    let early = CreateRollout {
        approval: true,
        selector: Selector {
            labels: [("site".into(), "new".into())].into(),
            ..Selector::default()
        },
        ..everyone()
    };
    let early = fleet.operate(move |c| c.create_rollout(&early)).await;
    assert_eq!(early.unwrap().counts.total, 0);
    let arriving = CreateTokens {
        labels: [("site".into(), "new".into())].into(),
        ..auto(5)
    };
    for (n, claim) in (40..).zip(fleet.tokens(arriving).await) {
        fleet.claim(n, &claim).await;
    }
    let bob = Person::new(&fleet, "bob", OperatorRole::Operator).await;
    let error = bob.asks(|c| c.approve_rollout("r3")).await.unwrap_err();
    assert!(error.to_string().contains("7 of the fleet's 15"), "{error}");

    let staged = CreateRollout {
        strategy: Strategy::Staged {
            stages: vec![Stage::Count(1), Stage::Count(2)],
        },
        ..everyone()
    };
    let created = fleet.operate(move |c| c.create_rollout(&staged)).await;
    assert_eq!(created.unwrap().stages.len(), 3);
}
