"""Anthropic's own library against the simulator. Usage: anthropic_sdk.py URL [VERSION]."""

import sys

import anthropic

from common import QUESTION, check, last, raises, same

URL = sys.argv[1]
VERSION = {"anthropic-version": sys.argv[2]} if len(sys.argv) > 2 else None
CLIENT = anthropic.Anthropic(base_url=URL, api_key="sk-sim", max_retries=0, timeout=20, default_headers=VERSION)
TOOL = {
    "name": "find_order",
    "input_schema": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
}


def ask(text, **more):
    more = {"messages": [{"role": "user", "content": text}], "max_tokens": 4000, "model": "claude-sim", **more}
    return CLIENT.messages.create(**more)


def completion():
    reply = ask(QUESTION, system="You are a support agent.")
    line = last(URL)
    same(reply.stop_reason, "end_turn", "stop_reason")
    check("A-1042" in reply.content[0].text, "the answer is not about the question")
    same((line["protocol"], line["model"], line["end"]), ("anthropic", "claude-sim", "completed"), "ledger")
    same(reply.id, line["provider_id"], "id")
    same((reply.usage.input_tokens, reply.usage.output_tokens), (line["input_tokens"], line["output_tokens"]), "usage")


def usage_details():
    reply = ask("[[cached:4]] [[written:3]] [[reason:9]] [[say:ok]] and some more words to count",
                thinking={"type": "enabled", "budget_tokens": 2000})
    line = last(URL)
    same([block.type for block in reply.content], ["thinking", "text"], "blocks")
    usage = reply.usage
    same((usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (4, 3), "cache")
    same(usage.input_tokens + 7, line["input_tokens"], "input tokens")
    same((usage.output_tokens, line["reasoning_tokens"]), (10, 9), "output tokens")


def stream():
    whole = ask(QUESTION)
    with CLIENT.messages.stream(model="claude-sim", max_tokens=4000,
                                messages=[{"role": "user", "content": QUESTION}]) as events:
        kinds = [event.type for event in events]
        final = events.get_final_message()
    same(final.content[0].text, whole.content[0].text, "streamed text")
    same((kinds[0], kinds[-1]), ("message_start", "message_stop"), "first and last event")
    same((final.usage.input_tokens, final.usage.output_tokens, final.stop_reason),
         (whole.usage.input_tokens, whole.usage.output_tokens, "end_turn"), "end of the stream")
    same(final.id, last(URL)["provider_id"], "id")


def tools():
    question = {"role": "user", "content": '[[together]] [[tool:find_order {"id":"A-1"}]] [[tool:find_order {"id":"B-2"}]]'}
    reply = ask("", messages=[question], tools=[TOOL])
    same(reply.stop_reason, "tool_use", "stop_reason")
    same([block.input for block in reply.content], [{"id": "A-1"}, {"id": "B-2"}], "inputs")
    with CLIENT.messages.stream(model="claude-sim", max_tokens=4000, messages=[question], tools=[TOOL]) as events:
        streamed = events.get_final_message()
    same([block.input for block in streamed.content], [block.input for block in reply.content], "streamed inputs")
    made = {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in reply.content]}
    result = lambda block: {"type": "tool_result", "tool_use_id": block.id, "content": f"shipped {block.id}"}
    after = ask("", messages=[question, made, {"role": "user", "content": [result(b) for b in reply.content]}],
                tools=[TOOL])
    check("shipped" in after.content[0].text, "the results are not used")
    half = [question, made, {"role": "user", "content": [result(reply.content[0])]}]
    error = raises(anthropic.BadRequestError, lambda: ask("", messages=half, tools=[TOOL]))
    check(reply.content[1].id in error.message, "the missing result is not named")
    forced = ask(QUESTION, tools=[TOOL], tool_choice={"type": "tool", "name": "find_order"})
    same((forced.stop_reason, type(forced.content[0].input["id"])), ("tool_use", str), "forced call")


def forms_and_stops():
    schema = {"type": "object", "properties": {"team": {"type": "string", "enum": ["billing"]}}, "required": ["team"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    same(ask(QUESTION, output_config=form).content[0].text, '{"team":"billing"}', "structured output")
    same(ask("[[long:50]]", max_tokens=5).stop_reason, "max_tokens", "stop_reason")
    stopped = ask("[[say:one two]]", stop_sequences=[" two"])
    same((stopped.content[0].text, stopped.stop_sequence), ("one", " two"), "stop sequence")
    same(ask("[[refuse]]").stop_reason, "refusal", "stop_reason")


def errors():
    for status, kind, word in [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
    ]:
        error = raises(kind, lambda: ask(f"[[fail:{status}]]"))
        same((error.status_code, error.body["error"]["type"]), (status, word), "error")
        same(error.request_id, last(URL)["provider_id"], "request id")
    try:
        ask("[[fail:529]]")
    except anthropic.APIStatusError as error:
        same((error.status_code, error.body["error"]["type"]), (529, "overloaded_error"), "overloaded")
    else:
        raise SystemExit("529 raised nothing")
    error = raises(anthropic.RateLimitError, lambda: ask("[[fail:429::7]]"))
    same(error.response.headers["retry-after"], "7", "retry-after")
    same([model.id for model in CLIENT.models.list()], ["sim-small", "sim-large"], "models")


def faults():
    def drained(text):
        with CLIENT.messages.stream(model="claude-sim", max_tokens=4000,
                                    messages=[{"role": "user", "content": f"{QUESTION} {text}"}]) as events:
            return events.get_final_message()

    try:
        drained("[[break:529]]")
    except anthropic.APIStatusError as error:
        same(error.body["error"]["type"], "overloaded_error", "error in the stream")
    else:
        raise SystemExit("an error in the stream went unnoticed")
    for text in ["[[truncate]]", "[[garble]]"]:
        try:
            drained(text)
        except Exception as error:
            check(error is not None, "no error")
        else:
            raise SystemExit(f"{text} went unnoticed")
    raises(anthropic.APIConnectionError, lambda: ask("[[disconnect]]"))
    raises(anthropic.APITimeoutError, lambda: ask("[[hang]]", timeout=0.5))
    same(drained("[[drip:1]] [[say:slow]]").content[0].text, "slow", "a stream that drips")


for part in [completion, usage_details, stream, tools, forms_and_stops, errors, faults]:
    part()
    print(part.__name__)
