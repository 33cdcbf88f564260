"""Ollama's own library against the simulator. Usage: ollama_sdk.py URL."""

import sys

import httpx
import ollama

from common import QUESTION, check, last, raises, same

URL = sys.argv[1]
CLIENT = ollama.Client(host=URL, timeout=20)
TOOL = {
    "type": "function",
    "function": {
        "name": "find_order",
        "description": "Finds an order.",
        "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    },
}


def ask(text, **more):
    return CLIENT.chat(**{"model": "llama-sim", "messages": [{"role": "user", "content": text}], **more})


def completion():
    reply = ask(QUESTION)
    line = last(URL)
    same((reply.done, reply.done_reason), (True, "stop"), "end")
    check("A-1042" in reply.message.content, "the answer is not about the question")
    same((line["protocol"], line["model"], line["end"]), ("ollama", "llama-sim", "completed"), "ledger")
    same((reply.prompt_eval_count, reply.eval_count), (line["input_tokens"], line["output_tokens"]), "usage")
    check(reply.total_duration >= reply.load_duration > 0, "durations")


def usage_details():
    reply = ask("[[reason:9]] [[say:ok]]", think=True)
    same((reply.eval_count, last(URL)["reasoning_tokens"]), (10, 9), "tokens")
    check(len(reply.message.thinking) == 36, "no thinking")


def stream():
    whole = ask(QUESTION)
    parts = list(ask(QUESTION, stream=True))
    same("".join(part.message.content for part in parts), whole.message.content, "streamed text")
    same([part.done for part in parts], [False] * (len(parts) - 1) + [True], "done")
    same((parts[-1].prompt_eval_count, parts[-1].eval_count), (whole.prompt_eval_count, whole.eval_count), "usage")


def tools():
    question = {"role": "user", "content": '[[together]] [[tool:find_order {"id":"A-1"}]] [[tool:find_order {"id":"B-2"}]]'}
    reply = ask("", messages=[question], tools=[TOOL])
    arguments = [dict(call.function.arguments) for call in reply.message.tool_calls]
    same(arguments, [{"id": "A-1"}, {"id": "B-2"}], "arguments")
    streamed = [call for part in ask("", messages=[question], tools=[TOOL], stream=True)
                for call in part.message.tool_calls or []]
    same([dict(call.function.arguments) for call in streamed], arguments, "streamed arguments")
    results = [{"role": "tool", "tool_name": "find_order", "content": "shipped"}] * 2
    after = ask("", messages=[question, reply.message, *results], tools=[TOOL])
    check("shipped" in after.message.content, "the results are not used")
    error = raises(ollama.ResponseError, lambda: ask("x", model="sim-no-tools", tools=[TOOL]))
    check("does not support tools" in error.error, "a model without tools is not named")


def forms_and_stops():
    schema = {"type": "object", "properties": {"team": {"type": "string", "enum": ["billing"]}}, "required": ["team"]}
    same(ask(QUESTION, format=schema).message.content, '{"team":"billing"}', "structured output")
    same(ask("[[long:50]]", options={"num_predict": 5}).done_reason, "length", "done_reason")
    same(ask("[[say:one two]]", options={"stop": [" two"]}).message.content, "one", "stop")


def errors():
    for status in [400, 404, 429, 500, 503]:
        error = raises(ollama.ResponseError, lambda: ask(f"[[fail:{status}]]"))
        same(error.status_code, status, "status")
    missing = raises(ollama.ResponseError, lambda: ask("x", model="unknown-1"))
    same((missing.status_code, "not found" in missing.error), (404, True), "unknown model")
    same([model.model for model in CLIENT.list().models], ["sim-small:latest", "sim-large:latest"], "models")
    check("tools" in CLIENT.show("sim-small").capabilities, "capabilities")


def faults():
    raises(ollama.ResponseError, lambda: list(ask(f"{QUESTION} [[break:500]]", stream=True)))
    for text in ["[[truncate]]", "[[garble]]"]:
        try:
            list(ask(f"{QUESTION} {text}", stream=True))
        except Exception as error:
            check(error is not None, "no error")
        else:
            raise SystemExit(f"{text} went unnoticed")
    try:
        ask("[[disconnect]]")
    except (ConnectionError, httpx.HTTPError) as error:
        check(error is not None, "no error")
    else:
        raise SystemExit("a closed connection went unnoticed")
    impatient = ollama.Client(host=URL, timeout=0.5)
    raises(httpx.ReadTimeout, lambda: impatient.chat(model="m", messages=[{"role": "user", "content": "[[hang]]"}]))
    slow = ask("[[drip:1]] [[say:slow]]", stream=True)
    same("".join(part.message.content for part in slow), "slow", "a stream that drips")


for part in [completion, usage_details, stream, tools, forms_and_stops, errors, faults]:
    part()
    print(part.__name__)
