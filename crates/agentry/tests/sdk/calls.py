"""So many calls, one after another. Usage: calls.py URL COUNT."""

import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="sk-sim", max_retries=0)
for number in range(int(sys.argv[2])):
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": f"call {number}"}])
