"""Slack's own library against the simulator: calls its Web API and verifies what it sends.

Usage: slack_sdk_test.py URL SIGNING_SECRET. The simulator's time scale is 0.001 and its patience 500 ms.
"""

import json
import queue
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.models.blocks import ActionsBlock, ButtonElement, SectionBlock
from slack_sdk.signature import SignatureVerifier
from slack_sdk.webhook import WebhookClient

from common import check, raises, same

URL, SECRET = sys.argv[1:]
CLIENT = WebClient(token="xoxb-sim", base_url=f"{URL}/api/", retry_handlers=[])
VERIFIER = SignatureVerifier(SECRET)
# Seconds; only a test that fails waits so long.
PATIENCE = 20


class App(BaseHTTPRequestHandler):
    """The app that is sent to: keeps what comes, answers what it is told to."""

    protocol_version = "HTTP/1.1"
    seen = queue.Queue()
    answers = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        App.seen.put((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        try:
            status, answer = App.answers.get_nowait()
        except queue.Empty:
            status, answer = 200, b""
        if callable(answer):
            answer()
            answer = b""
        try:
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        pass


def http(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{URL}{path}", data=data, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        text = response.read()
    return json.loads(text) if text else None


def seen():
    return App.seen.get(timeout=PATIENCE)


def valid(headers, body):
    return VERIFIER.is_valid_request(body, headers)


def payload(body):
    return json.loads(urllib.parse.parse_qs(body.decode())["payload"][0])


def buttons(text, *values):
    elements = [ButtonElement(text=value, action_id=f"pick-{value}", value=value) for value in values]
    return [SectionBlock(text=text).to_dict(), ActionsBlock(elements=elements).to_dict()]


def web_api():
    me = CLIENT.auth_test()
    same((me["team_id"], me["user_id"]), ("T0SIM", "U0SIMBOT"), "auth.test")
    metadata = {"event_type": "agentry_answer", "event_payload": {"key": "k1"}}
    parent = CLIENT.chat_postMessage(channel="C1", text="first", metadata=metadata)
    reply = CLIENT.chat_postMessage(channel="C1", thread_ts=parent["ts"], text="second", blocks=buttons("pick", "eu", "us"))
    check(float(reply["ts"]) > float(parent["ts"]), "time stamps do not grow")
    found = CLIENT.conversations_replies(channel="C1", ts=parent["ts"], include_all_metadata=True)["messages"]
    same([message["text"] for message in found], ["first", "second"], "replies")
    same((found[0]["metadata"], found[0]["reply_count"]), (metadata, 1), "the parent")
    check("metadata" not in CLIENT.conversations_replies(channel="C1", ts=parent["ts"])["messages"][0],
          "metadata is shown unasked")
    CLIENT.chat_update(channel="C1", ts=parent["ts"], text="changed")
    history = CLIENT.conversations_history(channel="C1", limit=1)
    same([message["text"] for message in history["messages"]], ["changed"], "history without replies")
    check("edited" in history["messages"][0], "the change is not marked")
    CLIENT.chat_postEphemeral(channel="C1", user="U1", text="only you")
    same(len(CLIENT.conversations_history(channel="C1")["messages"]), 1, "an ephemeral message in the history")
    CLIENT.chat_delete(channel="C1", ts=reply["ts"])
    same(len(CLIENT.conversations_replies(channel="C1", ts=parent["ts"])["messages"]), 1, "after the deletion")


def refusals():
    def refused(error, **arguments):
        # A channel for each, so that the rate of none is reached.
        call = {"channel": f"C2{error}", "text": "x", **arguments}
        seen = raises(SlackApiError, lambda: CLIENT.chat_postMessage(**call))
        same(seen.response["error"], error, f"error for {list(arguments)}")

    refused("channel_not_found", channel="C0MISSING")
    refused("is_archived", channel="C0ARCHIVED")
    refused("no_text", text="")
    refused("msg_too_long", text="x" * 40_001)
    refused("thread_not_found", thread_ts="1.000001")
    refused("invalid_blocks", blocks=[{"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}}])
    refused("invalid_metadata_format", metadata={"event_type": "x"})
    stranger = WebClient(token="xoxb-other", base_url=f"{URL}/api/", retry_handlers=[])
    same(raises(SlackApiError, stranger.auth_test).response["error"], "invalid_auth", "a wrong token")


def rates():
    posts = lambda: [CLIENT.chat_postMessage(channel="C3", text=str(n)) for n in range(5)]
    limited = raises(SlackApiError, posts)
    same((limited.response.status_code, limited.response["error"]), (429, "ratelimited"), "the fourth post at once")
    same(limited.response.headers["Retry-After"], "1", "Retry-After")


def signed_events():
    sent = http("POST", "/sim/events?wait=true", {"text": "hello", "mention": True, "channel": "C4"})
    path, headers, body = seen()
    check(valid(headers, body), "the signature is not valid")
    event = json.loads(body)
    same((path, event["event"]["type"], event["event"]["ts"]), ("/slack/events", "app_mention", sent["ts"]), "event")
    same((event["event_id"], event["event"]["text"]), (sent["event_id"], "<@U0SIMBOT> hello"), "event")
    same((sent["delivered"], len(sent["attempts"])), (True, 1), "delivery")
    found = CLIENT.conversations_replies(channel="C4", ts=sent["ts"])["messages"]
    same(found[0]["text"], "<@U0SIMBOT> hello", "what was written is in the channel")
    App.answers.put((200, b'{"challenge": "seen"}'))
    same(http("POST", "/sim/challenge?wait=true", {})["body"], '{"challenge": "seen"}', "answer to the challenge")
    same(json.loads(seen()[2])["type"], "url_verification", "type")


def retries():
    late = threading.Event()
    App.answers.put((500, b""))
    App.answers.put((200, lambda: late.wait(PATIENCE)))
    sent = http("POST", "/sim/events?wait=true", {"text": "again"})
    late.set()
    arrived = [seen() for _ in range(3)]
    check(all(valid(headers, body) for _, headers, body in arrived), "a retry is not validly signed")
    same(len({body for _, _, body in arrived}), 1, "bodies of the retries")
    told = [(headers.get("x-slack-retry-num"), headers.get("x-slack-retry-reason")) for _, headers, _ in arrived]
    same(told, [(None, None), ("1", "http_error"), ("2", "http_timeout")], "retries")
    same((sent["delivered"], [attempt["status"] for attempt in sent["attempts"]]), (True, [500, None, 200]), "attempts")
    for _ in range(4):
        App.answers.put((503, b""))
    same(http("POST", "/sim/events?wait=true", {"text": "never"})["delivered"], False, "delivered at the fifth attempt")
    same(len([seen() for _ in range(4)]), 4, "attempts")
    same(App.seen.qsize(), 0, "more attempts than four")


def forgeries():
    for forge in ["signature", "stale", "missing", "body"]:
        http("POST", "/sim/events?wait=true", {"text": "x", "forge": forge})
        _, headers, body = seen()
        check(not valid(headers, body), f"a request forged by its {forge} is valid")


def commands():
    App.answers.put((200, b'{"response_type": "in_channel", "text": "at once"}'))
    sent = http("POST", "/sim/commands?wait=true", {"command": "/ask", "text": "what & why?", "channel": "C5"})
    path, headers, body = seen()
    check(valid(headers, body), "the signature of the command is not valid")
    form = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode()).items()}
    same((path, form["command"], form["text"], form["channel_id"]), ("/slack/commands", "/ask", "what & why?", "C5"), "form")
    same(CLIENT.conversations_history(channel="C5")["messages"][0]["text"], "at once", "the answer at once")
    hook = WebhookClient(sent["response_url"], retry_handlers=[])
    same([hook.send(text=f"later {n}").status_code for n in range(6)], [200] * 5 + [404], "uses of the response_url")
    private = http("GET", "/sim/messages?channel=C5&by=bot&contains=later")["messages"]
    same((len(private), private[0]["ephemeral_to"]), (5, "U0ALICE"), "ephemeral answers")


def clicks():
    posted = CLIENT.chat_postMessage(channel="C6", text="which?", blocks=buttons("which?", "eu", "us"))
    sent = http("POST", "/sim/clicks?wait=true", {"channel": "C6", "ts": posted["ts"], "action_id": "pick-us"})
    path, headers, body = seen()
    check(valid(headers, body), "the signature of the click is not valid")
    click = payload(body)
    same((path, click["type"]), ("/slack/interactive", "block_actions"), "click")
    same((click["actions"][0]["value"], click["container"]["message_ts"]), ("us", posted["ts"]), "action")
    same(WebhookClient(sent["response_url"]).send(text="chosen", replace_original=True).status_code, 200, "replacement")
    same(CLIENT.conversations_history(channel="C6")["messages"][0]["text"], "chosen", "the replaced message")
    gone = raises(urllib.error.HTTPError, lambda: http("POST", "/sim/clicks", {
        "channel": "C6", "ts": posted["ts"], "action_id": "pick-us"}))
    same(gone.code, 404, "a click on a button that is gone")


def modals():
    view = {"type": "modal", "title": {"type": "plain_text", "text": "Answer"},
            "submit": {"type": "plain_text", "text": "Send"}, "private_metadata": "p1",
            "blocks": [{"type": "input", "block_id": "b", "label": {"type": "plain_text", "text": "Why?"},
                        "element": {"type": "plain_text_input", "action_id": "a"}}]}
    posted = CLIENT.chat_postMessage(channel="C7", text="x", blocks=buttons("x", "other"))
    sent = http("POST", "/sim/clicks?wait=true", {"channel": "C7", "ts": posted["ts"], "action_id": "pick-other"})
    seen()
    opened = CLIENT.views_open(trigger_id=sent["trigger_id"], view=view)["view"]
    again = raises(SlackApiError, lambda: CLIENT.views_open(trigger_id=sent["trigger_id"], view=view))
    same(again.response["error"], "exchanged_trigger_id", "a trigger that was used")
    submit = lambda text: http("POST", "/sim/submissions?wait=true", {"view_id": opened["id"], "values": {"b": {"a": text}}})
    App.answers.put((200, b'{"response_action": "errors", "errors": {"b": "Too short."}}'))
    submit("no")
    same(http("GET", "/sim/views")["views"][-1]["errors"], {"b": "Too short."}, "errors in the view")
    _, headers, body = seen()
    check(valid(headers, body), "the signature of the submission is not valid")
    shown = payload(body)["view"]
    same(shown["state"]["values"]["b"]["a"], {"type": "plain_text_input", "value": "no"}, "values")
    same((shown["private_metadata"], shown["id"]), ("p1", opened["id"]), "view")
    submit("because")
    seen()
    same(http("GET", "/sim/views")["views"][-1]["open"], False, "a view that was taken stays open")


def faults():
    set_fault = lambda kind, **more: http("POST", "/sim/faults", {"method": "chat.postMessage", "kind": kind, "times": 1, **more})
    post = lambda text: CLIENT.chat_postMessage(channel="C8", text=text)
    set_fault("fail", error="fatal_error")
    same(raises(SlackApiError, lambda: post("a")).response["error"], "fatal_error", "a failure")
    set_fault("ratelimit")
    same(raises(SlackApiError, lambda: post("b")).response.status_code, 429, "a limit")
    set_fault("lose")
    try:
        post("c")
    except SlackApiError:
        raise SystemExit("a lost answer was answered")
    except Exception as error:
        check(error is not None, "no error")
    texts = [message["text"] for message in CLIENT.conversations_history(channel="C8")["messages"]]
    same(texts, ["c"], "what was posted although its answer was lost")
    set_fault("hang")
    impatient = WebClient(token="xoxb-sim", base_url=f"{URL}/api/", timeout=1, retry_handlers=[])
    try:
        impatient.chat_postMessage(channel="C8", text="d")
    except Exception as error:
        check(not isinstance(error, SlackApiError), "a call that hangs was answered")
    else:
        raise SystemExit("a call that hangs was answered")
    with urllib.request.urlopen(f"{URL}/sim/ledger", timeout=PATIENCE) as response:
        lines = [json.loads(line) for line in response.read().splitlines()]
    same([line["n"] for line in lines], list(range(1, len(lines) + 1)), "numbers of the ledger")
    posts = [line for line in lines if line.get("method") == "chat.postMessage" and line.get("channel") == "C8"]
    same([(line["text"], line["ok"]) for line in posts], [("a", False), ("b", False), ("c", True), ("d", False)], "ledger")


def main():
    app = ThreadingHTTPServer(("127.0.0.1", 0), App)
    app.daemon_threads = True
    threading.Thread(target=app.serve_forever, daemon=True).start()
    http("POST", "/sim/target", {"url": f"http://127.0.0.1:{app.server_address[1]}"})
    for part in [web_api, refusals, rates, signed_events, retries, forgeries, commands, clicks, modals, faults]:
        part()
        print(part.__name__)


main()
