// Ordinary calls of npm's `openai` against the server whose address is the argument.

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Name three colours." }];
const asked = { model: "auto", messages, max_tokens: 16, temperature: 0 };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.equal(models[0], "auto");

const whole = await client.chat.completions.create(asked);
const text = whole.choices[0].message.content;
assert.ok(text);
assert.equal(whole.aio.tier, models[1]);
assert.equal(whole.usage.prompt_tokens_details.cached_tokens, 0);

let streamed = "";
let usage;
const stream = await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(streamed, text);
// The same prompt again: all of it but its last token is in the KV cache.
const cached = { cached_tokens: usage.prompt_tokens - 1 };
assert.deepEqual(usage, { ...whole.usage, prompt_tokens_details: cached });

// A client that has read enough goes away.
const cut = await client.chat.completions.create({ ...asked, max_tokens: 512, stream: true });
for await (const _ of cut) break;

const completion = await client.completions.create({
  model: models[1],
  prompt: "Once upon",
  max_tokens: 8,
});
assert.ok(completion.choices[0].text);

await assert.rejects(
  client.chat.completions.create({ ...asked, temperature: 3 }),
  (error) => error.status === 400 && error.param === "temperature",
);
await assert.rejects(
  client.chat.completions.create({ ...asked, model: "gpt-9" }),
  (error) => error.status === 404 && error.code === "model_not_found",
);

console.log("all calls went well");
