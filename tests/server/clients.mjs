// Real clients of OpenAI's API against gptoss-server with gptoss-nano.
import assert from "node:assert/strict";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run, setTracingDisabled, tool } from "@openai/agents";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool as aiTool } from "ai";
import OpenAI from "openai";
import { z } from "zod";
import { check, finish, start } from "./server.mjs";

const [program, nano] = process.argv.slice(2);
const server = await start(program, nano, "--api-key", "sesame");
const baseURL = server.url + "/v1";
const client = new OpenAI({ baseURL, apiKey: "sesame", maxRetries: 0 });
const model = "gptoss-nano";
const ask = (content) => [{ role: "user", content }];

const schema = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};
const weather = { name: "get_weather", description: "Gets the weather in a city.", parameters: schema };
const forecast = '{"temperature": 21, "condition": "sunny"}';

await check("openai: models", async () => {
  const models = await client.models.list();
  assert.deepEqual(models.data.map((m) => m.id), [model]);
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("other"), { status: 404 });
});

await check("openai: chat", async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: ask("What is 15 × 23?"),
    reasoning_effort: "high",
  });
  const [{ message, finish_reason }] = answer.choices;
  assert.equal(message.content, "15 × 23 = 345.");
  assert.match(message.reasoning, /345/);
  assert.equal(message.reasoning_content, message.reasoning);
  assert.equal(finish_reason, "stop");
  const { usage } = answer;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.ok(usage.completion_tokens_details.reasoning_tokens > 0);
});

await check("openai: the same prompt again is cached, and answered alike", async () => {
  const question = { model, messages: ask("What is 44 + 17?") };
  const first = await client.chat.completions.create(question);
  const second = await client.chat.completions.create(question);
  assert.equal(second.choices[0].message.content, first.choices[0].message.content);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens / 2);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens < first.usage.prompt_tokens);
});

await check("openai: embeddings of a text, of several, of tokens, and their encodings", async () => {
  const length = (vector) => Math.hypot(...vector);
  const one = await client.embeddings.create({ model, input: "What is 15 × 23?" }); // the client asks for base64
  const several = await client.embeddings.create({ model, input: ["Hello", "What is 15 × 23?"], encoding_format: "float" });
  assert.deepEqual([one.object, one.data.length, several.data.length], ["list", 1, 2]);
  assert.deepEqual(several.data.map((d) => [d.object, d.index]), [["embedding", 0], ["embedding", 1]]);
  const [a, b] = [one.data[0].embedding, several.data[1].embedding];
  assert.ok(a.length > 10 && Math.abs(length(a) - 1) < 1e-4);
  assert.ok(a.every((x, i) => Math.abs(x - b[i]) < 1e-4));
  assert.ok(several.data[0].embedding.some((x, i) => Math.abs(x - b[i]) > 1e-3));
  assert.ok(one.usage.prompt_tokens > 3 && one.usage.total_tokens === one.usage.prompt_tokens);
  const tokens = await client.embeddings.create({ model, input: [[5], [400, 17], [5]], dimensions: a.length });
  assert.deepEqual(tokens.data[0].embedding, tokens.data[2].embedding);
  assert.equal(tokens.usage.prompt_tokens, 4);
  const flat = await client.embeddings.create({ model, input: [400, 17] });
  assert.ok(flat.data[0].embedding.every((x, i) => Math.abs(x - tokens.data[1].embedding[i]) < 1e-4));
  const mean = await client.embeddings.create({ model, input: [400, 17], pooling: "mean" });
  assert.ok(mean.data[0].embedding.some((x, i) => Math.abs(x - flat.data[0].embedding[i]) > 1e-3));
  const many = await client.embeddings.create({ model, input: Array.from({ length: 100 }, (_, i) => `number ${i}`) });
  assert.equal(many.data[99].index, 99);
  await assert.rejects(client.embeddings.create({ model, input: "a", dimensions: a.length - 1 }), { status: 400, param: "dimensions" });
});

await check("openai: chat, streamed", async () => {
  const stream = client.chat.completions.stream({
    model,
    messages: ask("What is 15 × 23?"),
    reasoning_effort: "high",
    stream_options: { include_usage: true },
  });
  let pieces = 0;
  stream.on("content", () => pieces++);
  const answer = await stream.finalChatCompletion();
  assert.equal(answer.choices[0].message.content, "15 × 23 = 345.");
  assert.ok(pieces > 5);
  assert.ok((await stream.totalUsage()).completion_tokens > 0);
});

await check("openai: parts, system, developer and earlier turns", async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: [
      { role: "system", content: "You are gptoss-nano." },
      { role: "developer", content: [{ type: "text", text: "Answer." }] },
      { role: "user", content: [{ type: "text", text: "What is " }, { type: "text", text: "2 + 3?" }] },
      { role: "assistant", content: [{ type: "text", text: "2 + 3 = 5." }], reasoning: "2+3=5." },
      { role: "user", content: "What is 3 + 4?" },
      { role: "assistant", content: null, reasoning: "3+4=" },
      ...ask("What is 20 + 22?"),
    ],
  });
  assert.equal(answer.choices[0].finish_reason, "stop");
});

for (const stop of ["= 4", "+", "12 + 30 = 42.", "2 + 3"]) {
  await check(`openai: a stop string, "${stop}", across tokens`, async () => {
    const whole = "12 + 30 = 42.";
    const request = { model, messages: ask("What is 12 + 30?"), stop: [stop, "never said"] };
    const answer = await client.chat.completions.create(request);
    const expected = whole.slice(0, whole.indexOf(stop));
    assert.equal(answer.choices[0].message.content, expected);
    assert.equal(answer.choices[0].finish_reason, "stop");
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...request, stream: true }))
      text += chunk.choices[0].delta.content ?? "";
    assert.equal(text, expected);
  });
}

await check("openai: a beginning of a stop string that does not come is not lost", async () => {
  const answer = await client.chat.completions.create({ model, messages: ask("What is 12 + 30?"), stop: "42.." });
  assert.equal(answer.choices[0].message.content, "12 + 30 = 42.");
});

await check("openai: max tokens under two names", async () => {
  for (const name of ["max_tokens", "max_completion_tokens"]) {
    const answer = await client.chat.completions.create({ model, messages: ask("What is 12 + 30?"), [name]: 5 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 5);
  }
});

await check("openai: n and seed", async () => {
  const request = { model, messages: ask("Hello!"), n: 3, seed: 7, temperature: 2, max_tokens: 60 };
  const texts = (answer) => answer.choices.map((c) => [c.message.content, c.message.reasoning]);
  const first = texts(await client.chat.completions.create(request));
  assert.equal(first.length, 3);
  assert.notDeepEqual(first[0], first[1]);
  assert.deepEqual(texts(await client.chat.completions.create(request)), first);
});

const chatTools = [{ type: "function", function: weather }];

await check("openai: a tool, streamed and not, and its result", async () => {
  const messages = ask("What is the weather in Paris?");
  const { choices } = await client.chat.completions.create({ model, messages, tools: chatTools });
  assert.equal(choices[0].finish_reason, "tool_calls");
  const [call] = choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Paris" });
  const streamed = await client.chat.completions.stream({ model, messages, tools: chatTools }).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  messages.push(choices[0].message, { role: "tool", tool_call_id: call.id, content: forecast });
  const answer = await client.chat.completions.create({ model, messages, tools: chatTools });
  assert.match(answer.choices[0].message.content, /21/);
});

await check("openai: tool_choice none shows no tool", async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: ask("What is the weather in Paris?"),
    tools: chatTools,
    tool_choice: "none",
  });
  assert.equal(answer.choices[0].message.tool_calls, undefined);
  assert.equal(answer.choices[0].finish_reason, "stop");
});

await check("openai: tool_choice required, and a function by name", async () => {
  const request = { model, messages: ask("Hello!"), tools: chatTools, seed: 1 };
  for (const tool_choice of ["required", { type: "function", function: { name: "get_weather" } }]) {
    const { choices } = await client.chat.completions.create({ ...request, tool_choice });
    assert.equal(choices[0].finish_reason, "tool_calls");
    assert.equal(choices[0].message.tool_calls[0].function.name, "get_weather");
    assert.equal(typeof JSON.parse(choices[0].message.tool_calls[0].function.arguments), "object");
  }
});

await check("openai: an answer by a JSON schema, and arguments by a strict one", async () => {
  const schema = {
    type: "object",
    properties: { sum: { type: "integer", minimum: 0, maximum: 99 }, sure: { type: "boolean" } },
    required: ["sum", "sure"],
    additionalProperties: false,
  };
  const response_format = { type: "json_schema", json_schema: { name: "sum", strict: true, schema } };
  const request = { model, messages: ask("What is 12 + 30?"), temperature: 1.5 };
  for (let seed = 0; seed < 5; seed++) {
    const answer = await client.chat.completions.create({ ...request, response_format, seed });
    const { sum, sure } = JSON.parse(answer.choices[0].message.content);
    assert.ok(Number.isInteger(sum) && sum >= 0 && sum <= 99 && typeof sure === "boolean");
  }
  const inResponses = await client.responses.create({
    model,
    input: "What is 12 + 30?",
    text: { format: { type: "json_schema", name: "sum", schema } },
  });
  assert.deepEqual(Object.keys(JSON.parse(inResponses.output_text)), ["sum", "sure"]);
  const strict = { type: "function", function: { name: "set", strict: true, parameters: schema } };
  const { choices } = await client.chat.completions.create({ ...request, tools: [strict], tool_choice: "required" });
  assert.deepEqual(Object.keys(JSON.parse(choices[0].message.tool_calls[0].function.arguments)), ["sum", "sure"]);
});

// Log-probabilities of the text's tokens: their bytes are the text's, and the likeliest is the one that is drawn.
function checkLogprobs(logprobs, text, top) {
  assert.equal(Buffer.from(logprobs.flatMap((entry) => entry.bytes)).toString(), text);
  for (const { token, logprob, bytes, top_logprobs } of logprobs) {
    assert.ok(logprob <= 0 && logprob > -20);
    assert.equal(top_logprobs.length, top);
    assert.deepEqual(top_logprobs.map((t) => t.logprob), top_logprobs.map((t) => t.logprob).sort((a, b) => b - a));
    if (top) assert.deepEqual(top_logprobs[0], { token, logprob, bytes });
  }
}

await check("openai: log-probabilities in chat, streamed and not", async () => {
  const request = { model, messages: ask("What is 15 × 23?"), reasoning_effort: "high", temperature: 0 };
  const { choices } = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 3 });
  assert.equal(choices[0].logprobs.refusal, null);
  checkLogprobs(choices[0].logprobs.content, "15 × 23 = 345.", 3);
  const stream = client.chat.completions.stream({ ...request, logprobs: true, top_logprobs: 3 });
  for await (const chunk of stream) {
    const { delta, logprobs } = chunk.choices[0];
    assert.equal(logprobs === null, !delta.content);
  }
  assert.deepEqual((await stream.finalChatCompletion()).choices[0].logprobs.content, choices[0].logprobs.content);
  const several = await client.chat.completions.create({ ...request, logprobs: true, n: 2 });
  for (const choice of several.choices) checkLogprobs(choice.logprobs.content, "15 × 23 = 345.", 0);
  // Special tokens, and numbers that the vocabulary leaves out, are among so many.
  const many = await client.chat.completions.create({ ...request, logprobs: true, top_logprobs: 20 });
  checkLogprobs(many.choices[0].logprobs.content, "15 × 23 = 345.", 20);
  assert.ok(many.choices[0].logprobs.content.some((entry) => entry.top_logprobs.some((top) => top.token.startsWith("<|"))));
  assert.equal((await client.chat.completions.create(request)).choices[0].logprobs, null);
  const nobody = client.chat.completions.create({ ...request, top_logprobs: 3 });
  await assert.rejects(nobody, { status: 400, param: "top_logprobs" });
});

await check("openai: log-probabilities end at a stop string", async () => {
  const request = { model, messages: ask("What is 12 + 30?"), temperature: 0, logprobs: true, stop: "= 4" };
  const { message, logprobs } = (await client.chat.completions.create(request)).choices[0];
  const said = logprobs.content.map((entry) => entry.token);
  assert.ok(said.join("").startsWith(message.content) && said.slice(0, -1).join("").length < message.content.length);
});

await check("openai: log-probabilities in Responses, streamed and not", async () => {
  const request = { model, input: "What is 15 × 23?", reasoning: { effort: "high" }, temperature: 0 };
  const asked = { ...request, include: ["message.output_text.logprobs"], top_logprobs: 2 };
  const answer = await client.responses.create(asked);
  assert.equal(answer.top_logprobs, 2);
  const { logprobs } = answer.output.at(-1).content[0];
  checkLogprobs(logprobs, "15 × 23 = 345.", 2);
  const events = { delta: [], done: [] };
  for await (const event of client.responses.stream(asked))
    if (event.type.startsWith("response.output_text.")) events[event.type.slice(21)].push(...event.logprobs);
  assert.deepEqual(events, { delta: logprobs, done: logprobs });
  const alone = await client.responses.create({ ...request, include: ["message.output_text.logprobs"] });
  checkLogprobs(alone.output.at(-1).content[0].logprobs, "15 × 23 = 345.", 0);
  assert.deepEqual((await client.responses.create(request)).output.at(-1).content[0].logprobs, []);
});

await check("openai: a bias of a token", async () => {
  const prompt = "<|start|>user<|message|>What is 2 + 3?<|end|><|start|>assistant<|channel|>final<|message|>";
  const answer = await client.completions.create({ model, prompt, max_tokens: 8, temperature: 0, logit_bias: { 33: 100 } });
  const [character] = new Set(answer.choices[0].text);
  assert.equal(answer.choices[0].text, character.repeat(8));
});

await check("openai: completions", async () => {
  const prompt = "<|start|>user<|message|>What is 2 + 3?<|end|><|start|>assistant";
  const answer = await client.completions.create({ model, prompt, max_tokens: 100 });
  assert.match(answer.choices[0].text, /<\|channel\|>final<\|message\|>2 \+ 3 = 5\.$/);
  let text = "";
  for await (const chunk of await client.completions.create({ model, prompt, max_tokens: 100, stream: true }))
    text += chunk.choices[0]?.text ?? "";
  assert.equal(text, answer.choices[0].text);
});

await check("openai: completions with log-probabilities", async () => {
  const prompt = "<|start|>user<|message|>What is 15 × 23?<|end|><|start|>assistant";
  const request = { model, prompt, max_tokens: 300, logprobs: 3, temperature: 0 };
  const [{ text, logprobs }] = (await client.completions.create(request)).choices;
  assert.match(text, /15 × 23 = 345\.$/);
  assert.equal(logprobs.tokens.join(""), text);
  logprobs.tokens.forEach((token, i) => {
    assert.ok(logprobs.token_logprobs[i] <= 0);
    assert.equal(Object.keys(logprobs.top_logprobs[i]).length, 3); // at temperature 0, the one that was drawn is among them
    assert.equal(logprobs.top_logprobs[i][token], Math.max(...Object.values(logprobs.top_logprobs[i])));
    assert.equal([...text].slice(logprobs.text_offset[i]).join("").indexOf(token), 0);
  });
  const streamed = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
  for await (const chunk of await client.completions.create({ ...request, stream: true }))
    for (const [name, values] of Object.entries(chunk.choices[0]?.logprobs ?? {})) streamed[name].push(...values);
  assert.deepEqual(streamed, logprobs);
  const several = (await client.completions.create({ ...request, n: 2, logprobs: 0, temperature: 1 })).choices;
  for (const choice of several) {
    assert.equal(choice.logprobs.tokens.join(""), choice.text);
    for (const [i, top] of choice.logprobs.top_logprobs.entries()) assert.deepEqual(Object.keys(top), [choice.logprobs.tokens[i]]);
  }
  assert.equal((await client.completions.create({ ...request, logprobs: null })).choices[0].logprobs, null);
  await assert.rejects(client.completions.create({ ...request, echo: true }), { status: 400, param: "logprobs" });
});

await check("openai: Responses", async () => {
  const answer = await client.responses.create({
    model,
    input: "What is 15 × 23?",
    instructions: "Answer.",
    reasoning: { effort: "high" },
  });
  assert.equal(answer.status, "completed");
  assert.equal(answer.output_text, "15 × 23 = 345.");
  assert.deepEqual(answer.output.map((item) => item.type), ["reasoning", "message"]);
  assert.match(answer.output[0].content[0].text, /345/);
  assert.ok(answer.usage.output_tokens_details.reasoning_tokens > 0);
});

await check("openai: Responses, streamed: each event in its place", async () => {
  const events = [];
  const stream = client.responses.stream({ model, input: "What is 15 × 23?", reasoning: { effort: "high" } });
  for await (const event of stream) events.push(event);
  const answer = await stream.finalResponse();
  assert.equal(answer.output_text, "15 × 23 = 345.");
  assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, i) => i));
  const types = events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]);
  assert.deepEqual(types, [
    "response.created",
    "response.in_progress",
    ...["reasoning_text", "output_text"].flatMap((kind) => [
      "response.output_item.added",
      "response.content_part.added",
      `response.${kind}.delta`,
      `response.${kind}.done`,
      "response.content_part.done",
      "response.output_item.done",
    ]),
    "response.completed",
  ]);
  for (const [index, kind] of ["reasoning_text", "output_text"].entries()) {
    const deltas = events.filter((event) => event.type === `response.${kind}.delta`);
    assert.equal(deltas.map((event) => event.delta).join(""), answer.output[index].content[0].text);
    assert.ok(deltas.every((event) => event.item_id === answer.output[index].id && event.output_index === index));
  }
});

await check("openai: Responses, cut off", async () => {
  const answer = await client.responses.create({ model, input: "What is 15 × 23?", max_output_tokens: 12 });
  assert.equal(answer.status, "incomplete");
  assert.deepEqual(answer.incomplete_details, { reason: "max_output_tokens" });
});

await check("openai: Responses with a tool and its result", async () => {
  const tools = [{ type: "function", strict: false, ...weather }];
  const input = ask("What is the weather in Paris?");
  const stream = client.responses.stream({ model, input, tools });
  const types = new Set();
  for await (const event of stream) types.add(event.type);
  assert.ok(types.has("response.function_call_arguments.delta") && types.has("response.function_call_arguments.done"));
  const { output } = await stream.finalResponse();
  const call = output.at(-1);
  assert.equal(call.type, "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { city: "Paris" });
  input.push(...output, { type: "function_call_output", call_id: call.call_id, output: forecast });
  const answer = await client.responses.create({ model, input, tools });
  assert.match(answer.output_text, /21/);
});

await check("openai: Responses with a tool of a namespace, beside one that OpenAI would run", async () => {
  const tools = [
    { type: "web_search" },
    {
      type: "namespace",
      name: "sky",
      description: "What is above",
      tools: [{ type: "function", ...weather, strict: true }],
    },
  ];
  const input = ask("What is the weather in Paris?");
  const asked = { model, input, tools, tool_choice: "required" };
  const [streamed, whole] = [await client.responses.stream(asked).finalResponse(), await client.responses.create(asked)];
  for (const { output } of [streamed, whole]) {
    const { type, namespace, name, arguments: json } = output.at(-1);
    assert.deepEqual([type, namespace, name], ["function_call", "sky", weather.name]);
    assert.deepEqual(Object.keys(JSON.parse(json)), ["city"]);
  }
  const call = whole.output.at(-1);
  input.push(...whole.output, { type: "function_call_output", call_id: call.call_id, output: forecast });
  assert.equal((await client.responses.create({ model, input, tools })).status, "completed");
  await assert.rejects(client.responses.create({ model, input, tools: [{ type: "mcp" }] }), { param: "tools[0].type" });
});

await check("openai: a wrong key", async () => {
  for (const apiKey of ["sesam", "sesame2", "Sesame"])
    await assert.rejects(new OpenAI({ baseURL, apiKey, maxRetries: 0 }).models.list(), { status: 401 });
});

// Two tools, of which the model has to choose one.
setTracingDisabled(true);
for (const Model of [OpenAIChatCompletionsModel, OpenAIResponsesModel]) {
  await check(`@openai/agents: two tools, ${Model.name}`, async () => {
    const calls = [];
    const make = (name, description, result) =>
      tool({
        name,
        description,
        strict: false,
        parameters: { ...schema, additionalProperties: true },
        execute: async (input) => (calls.push([name, input.city]), result),
      });
    const agent = new Agent({
      name: "nano",
      instructions: "Answer.",
      model: new Model(client, model),
      tools: [make("get_weather", weather.description, forecast), make("get_time", "Gets the time in a city.", '{"time": "12:00"}')],
    });
    const result = await run(agent, "What is the weather in Paris?", { maxTurns: 4 });
    assert.deepEqual(calls, [["get_weather", "Paris"]]);
    assert.match(result.finalOutput, /21/);
  });
}

const compatible = createOpenAICompatible({ name: "gptoss", baseURL, apiKey: "sesame" })(model);

await check("ai: streamed text and reasoning", async () => {
  const result = streamText({ model: compatible, prompt: "What is 15 × 23?", providerOptions: { gptoss: { reasoningEffort: "high" } } });
  assert.equal(await result.text, "15 × 23 = 345.");
  assert.match(await result.reasoningText, /345/);
  assert.equal(await result.finishReason, "stop");
});

await check("ai: a tool, run, and the answer from its result", async () => {
  const calls = [];
  const result = await generateText({
    model: compatible,
    prompt: "What is the weather in Paris?",
    stopWhen: stepCountIs(3),
    tools: {
      get_weather: aiTool({
        description: weather.description,
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => (calls.push(city), JSON.parse(forecast)),
      }),
    },
  });
  assert.deepEqual(calls, ["Paris"]);
  assert.match(result.text, /21/);
});

await check("SIGTERM ends the server, and what runs is finished", async () => {
  const running = client.chat.completions.create({ model, messages: ask("What is 15 × 23?"), reasoning_effort: "high" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(await server.stop(), 0);
  assert.equal((await running).choices[0].message.content, "15 × 23 = 345.");
});
finish();
