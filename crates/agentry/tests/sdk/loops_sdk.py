"""One tool loop with reasoning and one structured answer through each official library, on models of today.

The libraries keep and return the reasoning themselves, as their documentation tells users to; the simulator counts what
came back unchanged. Usage: loops_sdk.py URL.
"""

import json
import sys
import urllib.request

import anthropic
import boto3
import ollama
import openai
from botocore.config import Config
from google import genai
from google.genai import types

from common import check, same

URL = sys.argv[1]
QUESTION = 'Find both orders [[tool:find_order {"id":"A-1"}]] [[tool:find_order {"id":"B-2"}]]'
SORT = "Sort this"
PARAMETERS = {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}
TEAM = {"type": "object", "properties": {"team": {"type": "string", "enum": ["billing"]}}, "required": ["team"],
        "additionalProperties": False}
SORTED = {"team": "billing"}
STEPS = 2


def returned():
    """Pieces of reasoning that came back unchanged, and those that did not."""
    with urllib.request.urlopen(f"{URL}/sim/stats", timeout=10) as response:
        stats = json.load(response)
    return stats["thinking_equal"], stats["thinking_altered"] + stats["thinking_missing"]


def responses():
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-sim", max_retries=0, timeout=20)
    tool = {"type": "function", "name": "find_order", "parameters": PARAMETERS, "strict": False}
    items = [{"role": "user", "content": QUESTION}]
    more = {"model": "gpt-6.2-sol", "tools": [tool], "store": False, "include": ["reasoning.encrypted_content"],
            "reasoning": {"effort": "low", "summary": "auto"}}
    for _ in range(STEPS):
        with client.responses.stream(input=items, **more) as events:
            reply = events.get_final_response()
        same([item.type for item in reply.output], ["reasoning", "function_call"], "output")
        items += [item.to_dict() for item in reply.output]
        call = reply.output[1]
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": f"shipped {call.arguments}"})
    reply = client.responses.create(input=items, **more)
    check("shipped" in reply.output_text, "the results are not used")
    check(reply.usage.output_tokens_details.reasoning_tokens > 0, "no reasoning is counted")
    form = {"format": {"type": "json_schema", "name": "sort", "schema": TEAM, "strict": True}}
    same(json.loads(client.responses.create(model="gpt-6.2-sol", input=SORT, text=form).output_text), SORTED, "answer")


def messages():
    client = anthropic.Anthropic(base_url=URL, api_key="sk-sim", max_retries=0, timeout=20)
    turns = [{"role": "user", "content": QUESTION}]
    more = {"model": "claude-opus-5-5", "max_tokens": 9000,
            "tools": [{"name": "find_order", "input_schema": PARAMETERS}]}
    for _ in range(STEPS):
        with client.messages.stream(messages=turns, **more) as events:
            reply = events.get_final_message()
        same([block.type for block in reply.content], ["thinking", "tool_use"], "blocks")
        result = {"type": "tool_result", "tool_use_id": reply.content[1].id, "content": "shipped"}
        turns += [{"role": "assistant", "content": reply.content}, {"role": "user", "content": [result]}]
    reply = client.messages.create(messages=turns, **more)
    check("shipped" in reply.content[-1].text, "the results are not used")
    form = {"format": {"type": "json_schema", "schema": TEAM}}
    reply = client.messages.create(model="claude-opus-5-5", max_tokens=9000, output_config=form,
                                   messages=[{"role": "user", "content": SORT}])
    same(json.loads(reply.content[-1].text), SORTED, "answer")


def converse():
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=URL, aws_access_key_id="AKIDSIM",
                          aws_secret_access_key="secret-of-the-simulator",
                          config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20))
    model = "global.anthropic.claude-sonnet-5-5"
    tools = {"tools": [{"toolSpec": {"name": "find_order", "inputSchema": {"json": PARAMETERS}}}]}
    turns = [{"role": "user", "content": [{"text": QUESTION}]}]
    for _ in range(STEPS):
        made = client.converse(modelId=model, messages=turns, toolConfig=tools)["output"]["message"]
        check("reasoningContent" in made["content"][0], "no reasoning")
        result = {"toolUseId": made["content"][1]["toolUse"]["toolUseId"], "content": [{"text": "shipped"}]}
        turns += [made, {"role": "user", "content": [{"toolResult": result}]}]
    reply = client.converse(modelId=model, messages=turns, toolConfig=tools)
    check("shipped" in reply["output"]["message"]["content"][-1]["text"], "the results are not used")
    form = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": json.dumps(TEAM), "name": "sort"}}}}
    reply = client.converse(modelId=model, messages=[{"role": "user", "content": [{"text": SORT}]}], outputConfig=form)
    same(json.loads(reply["output"]["message"]["content"][-1]["text"]), SORTED, "answer")


def generate_content():
    client = genai.Client(api_key="sim", http_options=types.HttpOptions(base_url=URL, timeout=20_000))
    model = "gemini-4-carbon"
    tool = types.Tool(function_declarations=[{"name": "find_order", "parameters_json_schema": PARAMETERS}])
    config = types.GenerateContentConfig(tools=[tool], thinking_config=types.ThinkingConfig(include_thoughts=True))
    contents = [types.Content(role="user", parts=[types.Part(text=QUESTION)])]
    for _ in range(STEPS):
        made = client.models.generate_content(model=model, contents=contents, config=config).candidates[0].content
        call = next(part for part in made.parts if part.function_call)
        check(call.thought_signature, "no signature")
        result = types.Part.from_function_response(name=call.function_call.name, response={"result": "shipped"})
        contents += [made, types.Content(role="user", parts=[result])]
    streamed = client.models.generate_content_stream(model=model, contents=contents, config=config)
    text = "".join(part.text or "" for chunk in streamed for part in chunk.candidates[0].content.parts or []
                   if not part.thought)
    check("shipped" in text, "the results are not used")
    form = types.GenerateContentConfig(response_mime_type="application/json", response_json_schema=TEAM)
    reply = client.models.generate_content(model=model, contents=SORT, config=form)
    same(json.loads(reply.text), SORTED, "answer")


def chat():
    client = ollama.Client(host=URL, timeout=20)
    tool = {"type": "function", "function": {"name": "find_order", "description": "Finds an order.", "parameters": PARAMETERS}}
    turns = [{"role": "user", "content": f"{QUESTION} [[reason:5]]"}]
    for _ in range(STEPS):
        made = client.chat(model="llama-sim", messages=turns, tools=[tool], think=True).message
        check(made.thinking, "no thinking")
        turns += [made, {"role": "tool", "tool_name": "find_order", "content": "shipped"}]
    reply = client.chat(model="llama-sim", messages=turns, tools=[tool], think=True)
    check("shipped" in reply.message.content, "the results are not used")
    reply = client.chat(model="llama-sim", messages=[{"role": "user", "content": SORT}], format=TEAM)
    same(json.loads(reply.message.content), SORTED, "answer")


# Each loop returns the reasoning of its first step twice and that of its second step once; Ollama's library drops the
# ids of calls, by which the simulator would know it again.
for part, expected in [(responses, 3), (messages, 3), (converse, 3), (generate_content, 3), (chat, 0)]:
    before, _ = returned()
    part()
    after, lost = returned()
    same((after - before, lost), (expected, 0), f"reasoning that came back in {part.__name__}")
    print(part.__name__)
