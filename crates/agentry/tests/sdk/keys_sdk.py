"""What four libraries make of a missing and of a wrong key, and of limits. Usage: keys_sdk.py URL KEY."""

import sys

import anthropic
import boto3
import ollama
import openai
from botocore.config import Config

from common import check, raises, same

URL, KEY = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "[[say:ok]]"}]


def of_openai(key):
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0)
    return client.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)


def of_anthropic(key):
    client = anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0)
    return client.messages.with_raw_response.create(model="m", max_tokens=9, messages=MESSAGES)


def of_bedrock(key, secret="right"):
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=URL, aws_access_key_id=key,
                          aws_secret_access_key=secret, config=Config(retries={"total_max_attempts": 1}))
    return client.converse(modelId="m", messages=[{"role": "user", "content": [{"text": "[[say:ok]]"}]}])


def of_ollama(key):
    return ollama.Client(host=URL, headers={"authorization": f"Bearer {key}"}).chat(model="m", messages=MESSAGES)


def wrong_keys():
    raises(openai.AuthenticationError, lambda: of_openai("wrong"))
    raises(anthropic.AuthenticationError, lambda: of_anthropic("wrong"))
    same(raises(ollama.ResponseError, lambda: of_ollama("wrong")).status_code, 401, "status")
    try:
        of_bedrock("wrong")
    except Exception as error:
        same(error.response["Error"]["Code"], "UnrecognizedClientException", "code")
    else:
        raise SystemExit("a wrong access key was taken")


def wrong_signatures():
    try:
        of_bedrock(KEY, "wrong")
    except Exception as error:
        same(error.response["Error"]["Code"], "InvalidSignatureException", "code")
    else:
        raise SystemExit("a signature with a wrong secret was taken")


def limits():
    """The simulator was started with 3 requests a minute and model."""
    first = of_openai(KEY).headers
    same((first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]), ("3", "2"), "OpenAI's headers")
    second = of_anthropic(KEY).headers
    same((second["anthropic-ratelimit-requests-limit"], second["anthropic-ratelimit-requests-remaining"]), ("3", "1"),
         "Anthropic's headers")
    check("T" in second["anthropic-ratelimit-requests-reset"], "the reset is no time")
    of_bedrock(KEY)
    over = raises(openai.RateLimitError, lambda: of_openai(KEY))
    check(1 <= int(over.response.headers["retry-after"]) <= 20, "Retry-After")
    over = raises(anthropic.RateLimitError, lambda: of_anthropic(KEY))
    check(1 <= int(over.response.headers["retry-after"]) <= 20, "retry-after")


for part in [wrong_keys, wrong_signatures, limits]:
    part()
    print(part.__name__)
