//! Outages of the connection to the broker, of every kind: they cost only time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentry_bus::rabbitmq::RabbitBus;
use agentry_bus::{EventBus, ReceiveOutcome, Signals};
use agentry_core::agent::ModeSet;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use crate::proxy::{Proxy, Wire};
use crate::support::{TestNames, event, eventually, foreign, wake, wakes_flow, with_names, within};

/// Declares a foreign queue of all events, which keeps its messages during the outage.
async fn listen(names: &TestNames, channel: &Channel) -> Consumer {
    let queue = names.name("foreign");
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let options = QueueBindOptions::default();
    let exchange = names.name("events").into();
    channel.queue_bind(queue.as_str().into(), exchange, "#".into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn until_missed(signals: &mut Box<dyn Signals>) {
    within("the news that signals may be missing", async {
        while !matches!(signals.next().await, ReceiveOutcome::Missed) {}
    })
    .await;
}

/// Cuts the connection for `outage` during a stream of events, and checks the result.
async fn survives(names: Arc<TestNames>, cut: Wire, outage: Duration) {
    let proxy = Proxy::start().await;
    let (far, near) = (names.bus_at(&proxy.url).await, names.bus().await);
    let (_connection, channel) = foreign().await;
    let mut events = listen(&names, &channel).await;
    let (mut wakes, mut signals) = (far.wakes(ModeSet::ALL), far.signals());
    wakes_flow(&near, &mut wakes, 1).await;
    far.publish(&event("before")).await.unwrap();

    proxy.set(cut);
    let publishing = tokio::spawn(publish_until_confirmed_once(far.clone()));
    tokio::time::sleep(outage).await;
    assert!(!publishing.is_finished(), "the fault bit: nothing is confirmed over a wire that is cut");
    proxy.set(Wire::Up);

    let healed = Instant::now();
    let confirmed = within("events are confirmed again", publishing).await.unwrap();
    println!("events are confirmed {:?} after the wire healed", healed.elapsed());
    eventually("the bus is back", async || far.status().connected).await;
    assert!(far.status().reconnects > 0, "{:?}", far.status());
    assert!(far.status().last_fault.is_some());
    until_missed(&mut signals).await;
    wakes_flow(&near, &mut wakes, 2).await;
    println!("wakes flow {:?} after the wire healed", healed.elapsed());
    assert!(wakes.overflowed(), "wakes may have been lost");
    assert!(!wakes.overflowed(), "reported once");
    let mut workers = near.wakes(ModeSet::ALL);
    drop(wakes);
    wakes_flow(&far, &mut workers, 3).await;

    let mut missing: HashSet<String> = confirmed.into_iter().chain(["before".to_owned()]).collect();
    within("every confirmed event arrives", async {
        while !missing.is_empty() {
            let delivery = events.next().await.unwrap().unwrap();
            missing.remove(delivery.properties.message_id().as_ref().unwrap().as_str());
        }
    })
    .await;
    assert_eq!(far.status().unconfirmed, 0);
}

/// Publishes concurrently, as the relay does, and retries refused events until one round is confirmed.
async fn publish_until_confirmed_once(bus: RabbitBus) -> Vec<String> {
    let round = (0..20).map(|n| {
        let bus = bus.clone();
        async move {
            let event = event(&format!("during {n}"));
            while bus.publish(&event).await.is_err() {}
            event.id
        }
    });
    futures_util::future::join_all(round).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_closes() {
    with_names(|names| survives(names, Wire::Closes, Duration::from_secs(2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_refuses() {
    with_names(|names| survives(names, Wire::Refuses, Duration::from_secs(2))).await;
}

/// Longer than a confirm may take, so that the bus itself gives the connection up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_survive_a_silent_connection() {
    with_names(|names| survives(names, Wire::Silent, Duration::from_secs(7))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_idle_connection_is_noticed_by_its_heartbeat() {
    with_names(|names| async move {
        let proxy = Proxy::start().await;
        let bus = names.bus_at(&proxy.url).await;
        proxy.set(Wire::Silent);
        let cut = Instant::now();
        // Two heartbeats of 5 s, plus the check interval.
        eventually("the connection is given up", async || !bus.status().connected).await;
        println!("the silence is noticed after {:?}", cut.elapsed());
        proxy.set(Wire::Up);
        let healed = Instant::now();
        eventually("the bus is back", async || bus.status().connected).await;
        println!("the bus is back {:?} after the wire healed", healed.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_refused_when_the_broker_stays_unreachable() {
    with_names(|names| async move {
        let proxy = Proxy::start().await;
        let bus = names.bus_at(&proxy.url).await;
        proxy.set(Wire::Refuses);
        eventually("the connection is lost", async || !bus.status().connected).await;
        let error = within("an answer", bus.publish(&event("1"))).await.unwrap_err().to_string();
        assert!(error.contains("no confirm from RabbitMQ in 8 s"), "{error}");
        assert_eq!(bus.status().unconfirmed, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_broker_is_declared_anew() {
    with_names(|names| async move {
        let proxy = Proxy::start().await;
        let (far, near) = (names.bus_at(&proxy.url).await, names.bus().await);
        let mut inbound = far.inbound().unwrap();
        proxy.set(Wire::Closes);
        eventually("the connection is lost", async || !far.status().connected).await;
        within("the end", near.close()).await;
        names.delete_all().await;
        proxy.set(Wire::Up);
        eventually("the bus is back", async || far.status().connected).await;
        let mut wakes = far.wakes(ModeSet::ALL);
        wakes_flow(&far, &mut wakes, 1).await;
        far.publish(&event("1")).await.unwrap();
        assert_eq!(far.status().returned, 1);
        let (_connection, channel) = foreign().await;
        let body = br#"{"specversion":"1.0","id":"7","source":"shop","type":"t"}"#;
        let delivered = within("the way in is back", async {
            loop {
                let exchange = names.name("events");
                let publishing = channel.basic_publish(
                    exchange.into(),
                    "shop.order".into(),
                    lapin::options::BasicPublishOptions::default(),
                    body,
                    lapin::BasicProperties::default(),
                );
                publishing.await.unwrap().await.unwrap();
                let waiting = tokio::time::timeout(Duration::from_millis(300), inbound.next());
                if let Ok(events) = waiting.await {
                    return events;
                }
            }
        })
        .await;
        assert_eq!(delivered[0].event.id, "7");
        far.wake(vec![wake(2)]);
    })
    .await;
}
