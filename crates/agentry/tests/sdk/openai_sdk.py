"""OpenAI's own library against the simulator. Usage: openai_sdk.py URL."""

import sys

import openai

from common import QUESTION, check, last, raises, same

URL = sys.argv[1]
CLIENT = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-sim", max_retries=0, timeout=20)
TOOL = {
    "type": "function",
    "function": {
        "name": "find_order",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}


def ask(text, **more):
    more.setdefault("messages", [{"role": "user", "content": text}])
    return CLIENT.chat.completions.create(model="gpt-sim", **more)


def completion():
    reply = ask(QUESTION)
    line = last(URL)
    same(reply.choices[0].finish_reason, "stop", "finish_reason")
    check("A-1042" in reply.choices[0].message.content, "the answer is not about the question")
    same((line["protocol"], line["model"], line["end"]), ("openai", "gpt-sim", "completed"), "ledger")
    same(reply.id, line["provider_id"], "id")
    usage = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
    same(usage, (line["input_tokens"], line["output_tokens"]), "usage")


def usage_details():
    reply = ask("[[cached:4]] [[reason:9]] [[say:ok]] and some more words to count")
    same(reply.usage.prompt_tokens_details.cached_tokens, 4, "cached tokens")
    same(reply.usage.completion_tokens_details.reasoning_tokens, 9, "reasoning tokens")
    same(reply.usage.completion_tokens, 10, "completion tokens")
    same(reply.usage.total_tokens, reply.usage.prompt_tokens + 10, "total")


def stream():
    whole = ask(QUESTION)
    chunks = list(ask(QUESTION, stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    same(text, whole.choices[0].message.content, "streamed text")
    same(chunks[-1].usage.model_dump(), whole.usage.model_dump(), "usage of the stream")
    same(chunks[-1].choices, [], "choices of the last chunk")
    same({chunk.id for chunk in chunks}, {last(URL)["provider_id"]}, "ids")
    with CLIENT.chat.completions.stream(model="gpt-sim", messages=[{"role": "user", "content": QUESTION}]) as events:
        same(events.get_final_completion().choices[0].message.content, text, "accumulated text")


def tools():
    question = {"role": "user", "content": '[[together]] [[tool:find_order {"id":"A-1"}]] [[tool:find_order {"id":"B-2"}]]'}
    reply = ask("", messages=[question], tools=[TOOL])
    same(reply.choices[0].finish_reason, "tool_calls", "finish_reason")
    calls = reply.choices[0].message.tool_calls
    same([call.function.arguments for call in calls], ['{"id":"A-1"}', '{"id":"B-2"}'], "arguments")
    with CLIENT.chat.completions.stream(model="gpt-sim", messages=[question], tools=[TOOL]) as events:
        streamed = events.get_final_completion().choices[0].message.tool_calls
    same([call.function.arguments for call in streamed], [call.function.arguments for call in calls], "streamed")
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"shipped {call.id}"} for call in calls]
    made = reply.choices[0].message.model_dump(exclude_none=True)
    after = ask("", messages=[question, made, *results], tools=[TOOL])
    check("shipped" in after.choices[0].message.content, "the results are not used")
    error = raises(openai.BadRequestError, lambda: ask("", messages=[question, made, results[0]], tools=[TOOL]))
    check(calls[1].id in error.message, "the missing result is not named")


def forms_and_stops():
    schema = {"type": "object", "properties": {"team": {"type": "string", "enum": ["billing"]}}, "required": ["team"],
              "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "sort", "schema": schema, "strict": True}}
    same(ask(QUESTION, response_format=form).choices[0].message.content, '{"team":"billing"}', "structured output")
    same(ask("[[long:50]]", max_completion_tokens=5).choices[0].finish_reason, "length", "finish_reason")
    same(ask("[[say:one two]]", stop=[" two"]).choices[0].message.content, "one", "stop")
    same(ask("[[refuse]]").choices[0].finish_reason, "content_filter", "finish_reason")


def errors():
    for status, kind in [(400, openai.BadRequestError), (401, openai.AuthenticationError), (404, openai.NotFoundError),
                         (429, openai.RateLimitError), (500, openai.InternalServerError),
                         (529, openai.InternalServerError)]:
        error = raises(kind, lambda: ask(f"[[fail:{status}]]"))
        same(error.status_code, status, "status")
        same(error.request_id, last(URL)["provider_id"], "request id")
    error = raises(openai.RateLimitError, lambda: ask("[[fail:429::7]]"))
    same((error.response.headers["retry-after"], error.code), ("7", "rate_limit_exceeded"), "429")
    missing = raises(openai.NotFoundError, lambda: CLIENT.chat.completions.create(
        model="unknown-1", messages=[{"role": "user", "content": "x"}]))
    same(missing.code, "model_not_found", "code")
    same([model.id for model in CLIENT.models.list()], ["sim-small", "sim-large"], "models")


def faults():
    drained = lambda text: lambda: list(ask(f"{QUESTION} {text}", stream=True))
    raises(openai.APIError, drained("[[break:500]]"))
    for text in ["[[truncate]]", "[[garble]]"]:
        try:
            list(ask(f"{QUESTION} {text}", stream=True))
        except Exception as error:
            check(error is not None, "no error")
        else:
            raise SystemExit(f"{text} went unnoticed")
    raises(openai.APIConnectionError, lambda: ask("[[disconnect]]"))
    raises(openai.APITimeoutError, lambda: ask("[[hang]]", timeout=0.5))
    same("".join(chunk.choices[0].delta.content or "" for chunk in ask("[[drip:1]] [[say:slow]]", stream=True)),
         "slow", "a stream that drips")
    endless = ask("[[endless]] [[say:ever]]", stream=True)
    for _, _chunk in zip(range(100), endless):
        pass
    endless.close()


for part in [completion, usage_details, stream, tools, forms_and_stops, errors, faults]:
    part()
    print(part.__name__)
