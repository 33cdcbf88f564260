"""Traffic of Agentry's validation suite for Locust. See ../README.md."""

import hashlib
import hmac
import json
import os
import random
import time
import uuid

from locust import HttpUser, between, constant_throughput, events, task

AUTONOMOUS = os.environ.get("AUTONOMOUS", "triage")
CONTINUOUS = os.environ.get("CONTINUOUS", "support")
COLLABORATIVE = os.environ.get("COLLABORATIVE", "research-team")
SECRET = os.environ.get("SLACK_SIGNING_SECRET", "")
# Share of requests that may fail before Locust's exit code says so.
MAX_FAILED = 0.01
# Four kinds of events by their rates: 210 per second together.
STREAMS = {"slack.event.message": 100, "task.submission.new": 50, "agent.result.done": 50, "schedule.task.due": 10}


def answered(response, status, fits=lambda body: True):
    """Another status, or a body that does not fit, is a failure."""
    try:
        good = response.status_code == status and fits(response.json())
    except ValueError:
        good = False
    if good:
        response.success()
    else:
        response.failure(f"{response.status_code}: {(response.text or '')[:200]}")


def completed(body):
    """A task that was waited for must have completed."""
    return body.get("status") == "completed"


class TaskMix(HttpUser):
    """Tasks of three modes, each waited for."""

    wait_time = between(0.1, 0.5)

    def on_start(self):
        self.session = f"locust-{uuid.uuid4()}"

    def ask(self, agent, text, **more):
        body = {"agent": agent, "input": text, **more}
        with self.client.post("/v1/tasks?wait=30", json=body, name=agent, catch_response=True) as response:
            answered(response, 200, completed)

    @task(20)
    def autonomous(self):
        self.ask(AUTONOMOUS, "My refund has not arrived")

    @task(10)
    def continuous(self):
        self.ask(CONTINUOUS, "Where is my order?", session=self.session)

    @task(5)
    def collaborative(self):
        self.ask(COLLABORATIVE, "Compare two suppliers")


class EventBurst(HttpUser):
    """Events of four kinds; 210 users are the peak, 500 the burst: each sends one a second."""

    wait_time = constant_throughput(1)

    @task
    def publish(self):
        topic = random.choices(list(STREAMS), list(STREAMS.values()))[0]
        body = {"topic": topic, "source": "locust", "id": str(uuid.uuid4()), "data": {"pad": "x" * 900}}
        with self.client.post("/v1/events", json=body, name=topic, catch_response=True) as response:
            answered(response, 202)


class SlackEvents(HttpUser):
    """Signed mentions, as Slack sends them. Each user has a channel, because answers are paced by channel."""

    wait_time = constant_throughput(1)

    def on_start(self):
        self.channel = f"C{uuid.uuid4().hex[:9].upper()}"

    @task
    def message(self):
        text = json.dumps({
            "type": "event_callback",
            "event_id": f"Ev{uuid.uuid4().hex[:10].upper()}",
            "team_id": "T0001",
            "event": {"type": "app_mention", "channel": self.channel, "user": "U0001", "text": "<@U0BOT> hello",
                      "ts": f"{time.time():.6f}"},
        })
        stamp = str(int(time.time()))
        signature = hmac.new(SECRET.encode(), f"v0:{stamp}:{text}".encode(), hashlib.sha256).hexdigest()
        headers = {"content-type": "application/json", "x-slack-request-timestamp": stamp,
                   "x-slack-signature": f"v0={signature}"}
        with self.client.post("/slack/events", data=text, headers=headers, name="slack event",
                              catch_response=True) as response:
            answered(response, 200)


@events.quitting.add_listener
def verdict(environment, **_):
    """One failed request is no verdict: a share is, or a fault of this file; and nothing sent proves nothing."""
    total = environment.stats.total
    if total.num_requests == 0:
        environment.process_exit_code = 3
    elif total.fail_ratio > MAX_FAILED or environment.runner.exceptions:
        environment.process_exit_code = 1
    else:
        environment.process_exit_code = 0
