"""AWS's own library against the simulator: every request signed, every event stream checked. Usage: bedrock_sdk.py URL."""

import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from common import QUESTION, check, last, raises, same

URL = sys.argv[1]
# A model id with a colon and one that is an ARN: both must survive the path.
MODEL = "anthropic.claude-sim-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/sim"


def client(**more):
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=5, **{"read_timeout": 20, **more})
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=URL, config=config,
                        aws_access_key_id="AKIDSIM", aws_secret_access_key="secret-of-the-simulator")


CLIENT = client()
TOOLS = {"tools": [{"toolSpec": {"name": "find_order", "inputSchema": {"json": {
    "type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}}}}]}


def user(text):
    return {"role": "user", "content": [{"text": text}]}


def ask(text, **more):
    return CLIENT.converse(**{"modelId": MODEL, "messages": [user(text)], **more})


def text_of(reply):
    return "".join(block.get("text", "") for block in reply["output"]["message"]["content"])


def events(text, **more):
    return CLIENT.converse_stream(**{"modelId": MODEL, "messages": [user(text)], **more})


def gather(stream):
    """Text, inputs of tools, reason to stop and usage of a stream."""
    text, inputs, stop, usage = "", {}, None, None
    for event in stream:
        (kind, body), = event.items()
        if kind == "contentBlockDelta":
            text += body["delta"].get("text", "")
            if "toolUse" in body["delta"]:
                at = body["contentBlockIndex"]
                inputs[at] = inputs.get(at, "") + body["delta"]["toolUse"]["input"]
        elif kind == "messageStop":
            stop = body["stopReason"]
        elif kind == "metadata":
            usage = body["usage"]
    return text, list(inputs.values()), stop, usage


def completion():
    reply = ask(QUESTION, system=[{"text": "You are a support agent."}])
    line = last(URL)
    same(reply["stopReason"], "end_turn", "stopReason")
    check("A-1042" in text_of(reply), "the answer is not about the question")
    same((line["protocol"], line["model"], line["end"]), ("bedrock", MODEL, "completed"), "ledger")
    same(reply["ResponseMetadata"]["RequestId"], line["provider_id"], "request id")
    usage = reply["usage"]
    same((usage["inputTokens"], usage["outputTokens"]), (line["input_tokens"], line["output_tokens"]), "usage")
    ask(QUESTION, modelId=ARN)
    same(last(URL)["model"], ARN, "model of an ARN")


def usage_details():
    reply = ask("[[cached:4]] [[written:3]] [[reason:9]] [[say:ok]] and some more words to count",
                additionalModelRequestFields={"thinking": {"type": "enabled", "budget_tokens": 2000}})
    line, usage = last(URL), reply["usage"]
    check("reasoningContent" in reply["output"]["message"]["content"][0], "no reasoning")
    same((usage["cacheReadInputTokens"], usage["cacheWriteInputTokens"]), (4, 3), "cache")
    same(usage["inputTokens"] + 7, line["input_tokens"], "input tokens")
    same((usage["outputTokens"], usage["totalTokens"]), (10, line["input_tokens"] + 10), "output and total")


def stream():
    whole = ask(QUESTION)
    reply = events(QUESTION)
    text, _, stop, usage = gather(reply["stream"])
    same((text, stop), (text_of(whole), "end_turn"), "streamed text")
    same(usage, whole["usage"], "usage of the stream")
    same(reply["ResponseMetadata"]["RequestId"], last(URL)["provider_id"], "request id")


def tools():
    question = '[[together]] [[tool:find_order {"id":"A-1"}]] [[tool:find_order {"id":"B-2"}]]'
    reply = ask(question, toolConfig=TOOLS)
    same(reply["stopReason"], "tool_use", "stopReason")
    uses = [block["toolUse"] for block in reply["output"]["message"]["content"]]
    same([use["input"] for use in uses], [{"id": "A-1"}, {"id": "B-2"}], "inputs")
    same(gather(events(question, toolConfig=TOOLS)["stream"])[1], ['{"id":"A-1"}', '{"id":"B-2"}'], "streamed inputs")
    result = lambda use: {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": "shipped"}]}}
    made = reply["output"]["message"]
    messages = [user(question), made, {"role": "user", "content": [result(use) for use in uses]}]
    check("shipped" in text_of(ask("", messages=messages, toolConfig=TOOLS)), "the results are not used")
    half = [user(question), made, {"role": "user", "content": [result(uses[0])]}]
    error = raises(CLIENT.exceptions.ValidationException, lambda: ask("", messages=half, toolConfig=TOOLS))
    check(uses[1]["toolUseId"] in str(error), "the missing result is not named")


def forms_and_stops():
    schema = '{"type":"object","properties":{"team":{"type":"string","enum":["billing"]}},"required":["team"]}'
    form = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema, "name": "sort"}}}}
    same(text_of(ask(QUESTION, outputConfig=form)), '{"team":"billing"}', "structured output")
    same(ask("[[long:50]]", inferenceConfig={"maxTokens": 5})["stopReason"], "max_tokens", "stopReason")
    stopped = ask("[[say:one two]]", inferenceConfig={"stopSequences": [" two"]})
    same((text_of(stopped), stopped["stopReason"]), ("one", "stop_sequence"), "stop sequence")
    same(ask("[[refuse]]")["stopReason"], "content_filtered", "stopReason")


def errors():
    for status, kind in [(400, "ValidationException"), (403, "AccessDeniedException"), (404, "ResourceNotFoundException"),
                         (408, "ModelTimeoutException"), (424, "ModelErrorException"), (429, "ThrottlingException"),
                         (500, "InternalServerException"), (503, "ServiceUnavailableException")]:
        error = raises(getattr(CLIENT.exceptions, kind), lambda: ask(f"[[fail:{status}]]"))
        meta = error.response["ResponseMetadata"]
        same((meta["HTTPStatusCode"], meta["RequestId"]), (status, last(URL)["provider_id"]), "error")
    blank = raises(CLIENT.exceptions.ValidationException, lambda: ask(" "))
    check("is blank" in str(blank), "a blank text is not named")


def faults():
    drained = lambda text: gather(events(f"{QUESTION} {text}")["stream"])
    error = raises(EventStreamError, lambda: drained("[[break:429]]"))
    same(error.response["Error"]["Code"], "throttlingException", "exception in the stream")
    for text, kind in [("[[truncate]]", "cut off"), ("[[garble]]", "with a wrong checksum")]:
        try:
            seen = drained(text)
        except Exception as error:
            check(error is not None, "no error")
        else:
            check(seen[3] is None, f"a stream that is {kind} went unnoticed")
    for text in ["[[disconnect]]", "[[hang]]"]:
        impatient = client(read_timeout=1)
        try:
            impatient.converse(modelId=MODEL, messages=[user(text)])
        except ClientError as error:
            raise SystemExit(f"{text} was answered: {error}")
        except Exception as error:
            check(error is not None, "no error")
        else:
            raise SystemExit(f"{text} was answered")
    same(drained("[[drip:1]] [[say:slow]]")[0], "slow", "a stream that drips")


for part in [completion, usage_details, stream, tools, forms_and_stops, errors, faults]:
    part()
    print(part.__name__)
