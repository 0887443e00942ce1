"""Ordinary calls of Python's `openai` against the server whose address is the argument."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
messages = [{"role": "user", "content": "Name three colours."}]
asked = dict(model="auto", messages=messages, max_tokens=16, temperature=0)

models = [model.id for model in client.models.list()]
assert models[0] == "auto" and len(models) == 2, models
assert client.models.retrieve(models[1]).owned_by == "aio"

whole = client.chat.completions.create(**asked)
text = whole.choices[0].message.content
assert text and whole.choices[0].finish_reason in ("stop", "length")
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
assert whole.usage.prompt_tokens_details.cached_tokens == 0
assert whole.model == models[1] and whole.aio["tier"] == models[1]

chunks = list(
    client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
)
streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
assert streamed == text, (streamed, text)
# The same prompt again: all of it but its last token is in the KV cache.
usage = chunks[-1].usage
assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1, usage
assert usage.total_tokens == whole.usage.total_tokens, usage

raw = client.chat.completions.with_raw_response.create(**asked)
assert raw.headers["x-aio-tier"] == models[1] and raw.parse().choices[0].message.content == text

sampled = dict(asked, temperature=1, seed=7, n=2)
first, again = (client.chat.completions.create(**sampled) for _ in range(2))
said = lambda answer: [choice.message.content for choice in answer.choices]
assert said(first) == said(again) and len(said(first)) == 2

stopped = client.chat.completions.create(**dict(asked, stop=[text[3:6]]))
assert text[3:6] not in stopped.choices[0].message.content

override = {"aio": {"drafter": "lookup", "draft_length": 4}}
drafted = client.chat.completions.create(**asked, extra_body=override)
assert drafted.choices[0].message.content == text

completion = client.completions.create(model=models[1], prompt="Once upon", max_tokens=8, seed=1)
assert completion.choices[0].text

for wrong, kind in [
    (dict(asked, model="gpt-9"), openai.NotFoundError),
    (dict(asked, temperature=3), openai.BadRequestError),
    (dict(asked, tools=[{"type": "function", "function": {"name": "f"}}]), openai.BadRequestError),
]:
    try:
        client.chat.completions.create(**wrong)
    except kind as error:
        assert error.param, error
    else:
        raise AssertionError(f"{wrong} was taken")

print("all calls went well")
