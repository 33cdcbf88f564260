//! Events to foreign consumers and from foreign publishers.

use agentry_bus::{DeliveredEvent, EventBus, Inbound};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use serde_json::{Value, json};

use crate::support::{TestNames, event, eventually, foreign, state_of, with_names, within};

/// Declares a queue of a foreign client, bound to the results of agents.
async fn bound_queue(names: &TestNames, channel: &Channel) -> Consumer {
    let queue = names.name("foreign");
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let (exchange, key) = (names.name("events"), "agent.output.#");
    let options = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.into(), key.into(), options, FieldTable::default())
        .await
        .unwrap();
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

/// Publishes as a foreign client does, with a confirm.
async fn publish(names: &TestNames, channel: &Channel, topic: &str, body: &[u8]) {
    let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publishing = channel.basic_publish(names.name("events").into(), topic.into(), options, body, properties);
    let confirmation = publishing.await.unwrap().await.unwrap();
    assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "it has a queue");
}

fn order(id: &str) -> Vec<u8> {
    json!({"specversion": "1.0", "id": id, "source": "shop", "type": "order.placed", "data": {"order": id}})
        .to_string()
        .into_bytes()
}

async fn inbound(names: &TestNames, bus: &dyn EventBus, channel: &Channel) -> Box<dyn Inbound> {
    let inbound = bus.inbound().unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    ready(names).await;
    inbound
}

async fn ready(names: &TestNames) {
    eventually("the inbound queue is consumed", async || {
        // A passive declaration of a missing queue closes the channel.
        let (_connection, channel) = foreign().await;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(names.name("inbound").into(), options, FieldTable::default()).await;
        declared.is_ok_and(|queue| queue.consumer_count() > 0)
    })
    .await;
}

async fn one(inbound: &mut Box<dyn Inbound>) -> DeliveredEvent {
    let mut events = within("a foreign event", inbound.next()).await;
    assert_eq!(events.len(), 1);
    events.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_consumer_gets_a_cloudevent() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (_connection, channel) = foreign().await;
        let mut consumer = bound_queue(&names, &channel).await;
        bus.publish(&event("7")).await.unwrap();
        let delivery = within("the event", consumer.next()).await.unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let properties = &delivery.properties;
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
        assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "7");
        assert_eq!(delivery.routing_key.as_str(), "agent.output.writer");
        let body: Value = serde_json::from_slice(&delivery.data).unwrap();
        let expected = json!({
            "specversion": "1.0", "id": "7", "source": "agentry/agents/writer", "type": "dev.agentry.task.completed.v1",
            "time": "2023-11-14T22:13:20.123456Z", "datacontenttype": "application/json", "agentryhops": 1,
            "traceparent": "00-00000000000000000000000000000abc-0000000000000abc-00", "data": {"output": "done"},
        });
        assert_eq!(body, expected);
        assert_eq!((bus.status().returned, bus.status().unconfirmed), (0, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_nobody_is_bound_to_is_counted() {
    with_names(|names| async move {
        let bus = names.bus().await;
        bus.publish(&event("1")).await.unwrap();
        assert_eq!(bus.status().returned, 1);
        // Our own inbound queues do not count as listeners either.
        let (_connection, channel) = foreign().await;
        let _inbound = inbound(&names, &bus, &channel).await;
        bus.publish(&event("2")).await.unwrap();
        assert_eq!(bus.status().returned, 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_topic_is_probed_again_within_a_second() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (heard, other) = ("agent.output.writer", "agent.output.reader");
        assert!(bus.is_heard_outside(heard), "nobody knows yet");
        eventually("an event came back", async || {
            bus.publish(&event("1")).await.unwrap();
            !bus.is_heard_outside(heard)
        })
        .await;
        assert!(bus.is_heard_outside(other), "that was another topic");
        let (_connection, channel) = foreign().await;
        let mut consumer = bound_queue(&names, &channel).await;
        eventually("the topic is asked about", async || bus.is_heard_outside(heard)).await;
        bus.publish(&event("2")).await.unwrap();
        assert!(bus.is_heard_outside(heard), "it found the queue");
        let delivery = within("the event", consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.properties.message_id().as_ref().unwrap().as_str(), "2");
    })
    .await;
}

/// The client library attaches returned messages to any of the publications that one confirm settles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_return_counts_for_its_own_topic() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (_connection, channel) = foreign().await;
        let _consumer = bound_queue(&names, &channel).await;
        let publications = (0..500).map(|n| {
            let (bus, mut event) = (bus.clone(), event(&n.to_string()));
            if n % 2 == 0 {
                event.topic = "nobody.hears.this".to_owned();
            }
            tokio::spawn(async move { bus.publish(&event).await })
        });
        for published in within("all confirms", futures_util::future::join_all(publications)).await {
            published.unwrap().unwrap();
        }
        assert_eq!((bus.status().returned, bus.status().unconfirmed), (250, 0));
        assert!(bus.is_heard_outside("agent.output.writer"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_event_is_delivered_until_it_is_acknowledged() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (_connection, channel) = foreign().await;
        let mut inbound = inbound(&names, &bus, &channel).await;
        bus.publish(&event("our own")).await.unwrap();
        publish(&names, &channel, "shop.order.placed", &order("7")).await;
        let delivered = one(&mut inbound).await;
        let event = &delivered.event;
        assert_eq!(
            (event.id.as_str(), event.source.as_str(), event.topic.as_str()),
            ("7", "shop", "shop.order.placed")
        );
        assert_eq!(event.data, json!({"order": "7"}));
        drop(delivered);
        let again = one(&mut inbound).await;
        assert_eq!(again.event.id, "7", "dropped without a word, it comes again");
        again.ack();
        publish(&names, &channel, "shop.order.placed", &order("8")).await;
        let next = one(&mut inbound).await;
        assert_eq!(next.event.id, "8", "acknowledged, it does not");
        // An event that is not acknowledged when its process ends goes to another one.
        within("the end", bus.close()).await;
        next.ack();
        let other = names.bus().await;
        let mut inbound = other.inbound().unwrap();
        let delivered = one(&mut inbound).await;
        assert_eq!(delivered.event.id, "8");
        delivered.ack();
        drop(inbound);
        eventually("nothing is left", async || state_of(&channel, &names.name("inbound")).await == (0, 0)).await;
        within("the end", other.close()).await;
        assert_eq!(state_of(&channel, &names.name("inbound")).await, (0, 0), "nothing came back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_events_are_stored_with_the_reason() {
    with_names(|names| async move {
        let bus = names.bus().await;
        let (_connection, channel) = foreign().await;
        let mut inbound = inbound(&names, &bus, &channel).await;
        publish(&names, &channel, "shop.order.placed", b"not JSON").await;
        publish(&names, &channel, "shop.order.placed", &order("7")).await;
        one(&mut inbound).await.reject("agents triggered one another too often");
        eventually("both are counted", async || bus.status().rejected == 2).await;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let queue = names.name("inbound.rejected");
        let consuming = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut rejected = consuming.await.unwrap();
        for (body, reason) in [(b"not JSON".to_vec(), "not a CloudEvent"), (order("7"), "agents triggered")] {
            let delivery = within("a rejected message", rejected.next()).await.unwrap().unwrap();
            assert_eq!(delivery.data, body);
            let headers = delivery.properties.headers().as_ref().unwrap().inner();
            let text = |name: &str| headers[name].as_long_string().unwrap().to_string();
            assert!(text("agentry-reason").contains(reason), "{}", text("agentry-reason"));
            assert_eq!(text("agentry-topic"), "shop.order.placed");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_inbound_queue() {
    with_names(|names| async move {
        let (one_bus, two_bus) = (names.bus().await, names.bus().await);
        let (_connection, channel) = foreign().await;
        let mut one = inbound(&names, &one_bus, &channel).await;
        let mut two = two_bus.inbound().unwrap();
        eventually("both consume", async || state_of(&channel, &names.name("inbound")).await.1 == 2).await;
        for n in 0..100 {
            publish(&names, &channel, "shop.order.placed", &order(&n.to_string())).await;
        }
        let mut ids = Vec::new();
        within("all events", async {
            while ids.len() < 100 {
                let events = tokio::select! { events = one.next() => events, events = two.next() => events };
                for delivered in events {
                    ids.push(delivered.event.id.parse::<u32>().unwrap());
                    delivered.ack();
                }
            }
        })
        .await;
        ids.sort_unstable();
        assert_eq!(ids, (0..100).collect::<Vec<_>>(), "each once");
    })
    .await;
}
