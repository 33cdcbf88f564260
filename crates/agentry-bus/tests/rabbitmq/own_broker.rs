//! Tests that need a broker of their own: they wipe its disk and starve it of memory.

use std::time::Instant;

use agentry_bus::rabbitmq::{RabbitBus, RabbitOptions};
use agentry_bus::{EventBus, ReceiveOutcome};
use agentry_core::agent::ModeSet;

use crate::broker::Broker;
use crate::support::{event, eventually, state_at, wake, wakes_flow, within};

/// One wake more than the buffer holds.
const MORE_WAKES_THAN_FIT: u64 = 100_001;

async fn connect(broker: &Broker) -> RabbitBus {
    RabbitBus::connect(RabbitOptions::new(broker.url())).await.unwrap()
}

/// Publishes until the bus confirms; returns the number of failures and the time of the confirm.
async fn publish_until_confirmed(bus: RabbitBus, id: &'static str) -> (u32, Instant) {
    let mut refused = 0;
    while bus.publish(&event(id)).await.is_err() {
        refused += 1;
    }
    (refused, Instant::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_its_data_is_declared_anew() {
    let mut broker = Broker::start().await;
    let url = broker.url();
    let (sender, worker) = (connect(&broker).await, connect(&broker).await);
    let (mut wakes, mut signals) = (worker.wakes(ModeSet::ALL), worker.signals());
    let _inbound = worker.inbound().unwrap();
    wakes_flow(&sender, &mut wakes, 1).await;
    sender.publish(&event("before")).await.unwrap();

    broker.stop_node().await;
    let publishing = tokio::spawn(publish_until_confirmed(sender.clone(), "during"));
    broker.wipe();
    assert!(!publishing.is_finished(), "nobody is there to confirm it");
    broker.start_node().await;
    let listens = Instant::now();
    let (refused, confirmed) = within("the event is confirmed", publishing).await.unwrap();
    println!("confirmed {:?} after the broker listened, refused {refused} times", confirmed - listens);
    wakes_flow(&sender, &mut wakes, 2).await;
    println!("wakes flow {:?} after the broker listened", listens.elapsed());
    assert!(wakes.overflowed(), "wakes may have been lost");
    within("the news that signals may be missing", async {
        while !matches!(signals.next().await, ReceiveOutcome::Missed) {}
    })
    .await;
    sender.publish(&event("after")).await.unwrap();
    let consumed = async || state_at(&url, "agentry.inbound").await.is_some_and(|(_, consumers)| consumers == 1);
    eventually("the way in is back", consumed).await;
    assert!(state_at(&url, "agentry.inbound.rejected").await.is_some(), "the queue of what is rejected is back");
    assert_eq!((sender.status().unconfirmed, worker.status().unconfirmed), (0, 0));
    assert!(sender.status().reconnects > 0 && worker.status().reconnects > 0);
    within("the end", async { tokio::join!(sender.close(), worker.close()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_short_of_memory_blocks_publishers_until_it_has_some() {
    let broker = Broker::start().await;
    let (sender, worker) = (connect(&broker).await, connect(&broker).await);
    let (mut own, mut wakes) = (sender.wakes(ModeSet::NONE), worker.wakes(ModeSet::ALL));
    wakes_flow(&sender, &mut wakes, 1).await;

    broker.limit_memory("0.0001").await;
    let error = within("a refusal", async {
        loop {
            // The alarm takes a moment.
            if let Err(error) = sender.publish(&event("during")).await {
                return error.to_string();
            }
        }
    })
    .await;
    assert!(error.contains("it blocks publishers"), "{error}");
    let status = sender.status();
    assert!(status.blocked && status.connected && status.reconnects == 0, "{status:?}");
    assert_eq!(status.unconfirmed, 0);

    // Wakes already in flight do not count, so twice as many never fit.
    sender.wake((0..MORE_WAKES_THAN_FIT).map(wake).collect());
    sender.wake((0..MORE_WAKES_THAN_FIT).map(wake).collect());
    assert!(sender.status().dropped_wakes > 0);
    assert!(own.overflowed(), "the sender's workers look into the store");
    assert!(!own.overflowed(), "reported once");

    broker.limit_memory("0.4").await;
    within("an event is confirmed", publish_until_confirmed(sender.clone(), "after")).await;
    eventually("nothing is blocked", async || !sender.status().blocked).await;
    within("the wakes that fitted leave", async {
        while sender.depth() > 0 {
            wakes.next(1_000).await;
        }
    })
    .await;
    wakes_flow(&sender, &mut wakes, 500_000).await;
    assert_eq!(sender.status().reconnects, 0, "nothing had to be connected again: {:?}", sender.status());
    within("the end", async { tokio::join!(sender.close(), worker.close()) }).await;
}
