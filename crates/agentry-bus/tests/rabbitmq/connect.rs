use std::sync::Arc;

use agentry_bus::contract;
use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_bus::{EventBus, ReceiveOutcome};
use agentry_core::agent::ModeSet;
use tokio::net::TcpListener;

use crate::support::{TestNames, with_names, within};

async fn shared(names: Arc<TestNames>) -> Arc<dyn EventBus> {
    Arc::new(names.bus().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_wakes() {
    with_names(|names| async {
        within("one consumer of its mode", contract::a_wake_reaches_one_consumer_of_its_mode(shared(names).await))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_priorities() {
    with_names(|names| async {
        within("priorities go first", contract::priorities_go_first(shared(names).await)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract_signals() {
    with_names(|names| async {
        within("signals", contract::signals_reach_listeners_and_watchers(shared(names).await)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_broker_is_named_without_the_password() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let options = RabbitOptions::new(format!("amqp://someone:hunter2@127.0.0.1:{port}/%2f"));
    let error = within("an answer", RabbitBus::connect(options)).await.unwrap_err().to_string();
    assert!(error.contains(&format!("RabbitMQ at 127.0.0.1:{port}")), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_broker_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = RabbitOptions::new(format!("amqp://127.0.0.1:{port}/%2f"));
    let error = within("an answer", RabbitBus::connect(options)).await.unwrap_err().to_string();
    assert!(error.contains("no connection in 5 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_refused() {
    let mut uri: lapin::uri::AMQPUri = crate::support::url().parse().unwrap();
    uri.authority.userinfo.password = "wrong".to_owned();
    let error =
        within("an answer", RabbitBus::connect(RabbitOptions::new(uri.to_string()))).await.unwrap_err().to_string();
    assert!(error.contains("ACCESS"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_bus_ends_its_receivers() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (mut wakes, mut signals) = (bus.wakes(ModeSet::ALL), bus.signals());
        let mut inbound = bus.inbound().unwrap();
        within("the end", bus.close()).await;
        assert!(!bus.status().connected);
        assert!(within("the end of wakes", wakes.next(1)).await.is_empty());
        assert!(matches!(within("the end of signals", signals.next()).await, ReceiveOutcome::Closed));
        assert!(within("the end of events", inbound.next()).await.is_empty());
    })
    .await;
}
