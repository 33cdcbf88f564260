"""A client of another language's AMQP library: publishes events that start an agent, and hears its results.

Usage: foreign.py URL. Prints what it saw as one JSON object. Knows nothing of Agentry but the names of an exchange, of
a queue and of topics.
"""

import json
import sys
import time

import pika

EXCHANGE = "agentry.events"
REJECTED = "agentry.inbound.rejected"
TOPIC = "customer.ticket.created"
RESULTS = "agent.output.#"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MEDIA = "application/cloudevents+json"
# Seconds; only a test that fails waits so long.
PATIENCE = 30


def ticket(number):
    return json.dumps({
        "specversion": "1.0",
        "id": f"ticket-{number}",
        "source": "shop",
        "type": "com.example.ticket.created",
        "datacontenttype": "application/json",
        "traceparent": TRACE,
        "data": {"ticket": number, "text": "the parcel is lost"},
    })


def publish(channel, body, media=MEDIA):
    properties = pika.BasicProperties(content_type=media, delivery_mode=2)
    # Confirmed, and returned when nothing is bound: either raises.
    channel.basic_publish(EXCHANGE, TOPIC, body, properties, mandatory=True)


def next_result(channel, queue):
    """The next result."""
    for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE):
        if method is None:
            raise SystemExit(f"no result within {PATIENCE} s")
        channel.cancel()
        return {
            "topic": method.routing_key,
            "media": properties.content_type,
            "persistent": properties.delivery_mode == 2,
            "event": json.loads(body),
        }


def rejected(channel, count):
    """So many messages of the queue of what could not be taken."""
    seen, began = [], time.monotonic()
    while len(seen) < count:
        method, properties, body = channel.basic_get(REJECTED, auto_ack=True)
        if method is None:
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"{len(seen)} of {count} rejected events within {PATIENCE} s: {seen}")
            time.sleep(0.05)
            continue
        headers = {name: str(value) for name, value in (properties.headers or {}).items()}
        seen.append({"headers": headers, "body": body.decode()})
    return seen


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, EXCHANGE, RESULTS)

    publish(channel, ticket(1))
    first = next_result(channel, queue)
    # The same event again, as a publisher does that did not see the confirm; then another one, behind it.
    publish(channel, ticket(1))
    publish(channel, ticket(1))
    publish(channel, ticket(2))
    second = next_result(channel, queue)

    bad = [
        ("{", MEDIA),
        (json.dumps({"specversion": "1.0", "id": "1", "source": "shop"}), MEDIA),
        (ticket(3).replace('"1.0"', '"0.3"'), MEDIA),
        (ticket(4), "text/plain"),
    ]
    for body, media in bad:
        publish(channel, body, media)
    print(json.dumps({"first": first, "second": second, "rejected": rejected(channel, len(bad))}))
    connection.close()


main()
