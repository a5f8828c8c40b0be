// Malformed requests, floods, disconnects and neighbours.
import assert from "node:assert/strict";
import net from "node:net";
import { check, finish, metrics, post, start, until } from "./server.mjs";

const [program, nano] = process.argv.slice(2);
const server = await start(program, nano, "--parallel", "4", "--queue", "8", "--max-body", "100000", "--strict-model");
const chat = server.url + "/v1/chat/completions";
const ask = (content, more = {}) => ({ messages: [{ role: "user", content }], ...more });

// body, the endpoint, and the parameter that has to be named
const wrong = [
  ["", "chat/completions", null],
  ["nonsense", "chat/completions", null],
  ["[1]", "chat/completions", null],
  ['{"messages": "\\ud800"', "chat/completions", null],
  ["[".repeat(50000), "chat/completions", null],
  ['{"a":'.repeat(10000) + "1" + "}".repeat(10000), "chat/completions", null],
  [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), "chat/completions", null],
  [{}, "chat/completions", "messages"],
  [{ messages: [] }, "chat/completions", "messages"],
  [{ messages: 5 }, "chat/completions", "messages"],
  [{ messages: [5] }, "chat/completions", "messages[0]"],
  [{ messages: [{ role: "king", content: "" }] }, "chat/completions", "messages[0].role"],
  [{ messages: [{ role: "user" }] }, "chat/completions", "messages[0].content"],
  [{ messages: [{ role: "user", content: [{ type: "image_url" }] }] }, "chat/completions", "messages[0].content[0].type"],
  [{ messages: [{ role: "tool", tool_call_id: "x", content: "" }] }, "chat/completions", "messages[0].tool_call_id"],
  [ask("", { temperature: "hot" }), "chat/completions", "temperature"],
  [ask("", { temperature: 3 }), "chat/completions", "temperature"],
  [ask("", { temperature: -1e308 }), "chat/completions", "temperature"],
  [ask("", { top_p: 1.5 }), "chat/completions", "top_p"],
  [ask("", { seed: 1.5 }), "chat/completions", "seed"],
  [ask("", { seed: 1e30 }), "chat/completions", "seed"],
  [ask("", { n: 0 }), "chat/completions", "n"],
  [ask("", { stop: [1] }), "chat/completions", "stop[0]"],
  [ask("", { stop: ["1", "2", "3", "4", "5"] }), "chat/completions", "stop"],
  [ask("", { max_tokens: 0 }), "chat/completions", "max_tokens"],
  [ask("", { stream: "yes" }), "chat/completions", "stream"],
  [ask("", { reasoning_effort: "huge" }), "chat/completions", "reasoning_effort"],
  [ask("", { logprobs: 5 }), "chat/completions", "logprobs"],
  [ask("", { top_logprobs: 5 }), "chat/completions", "top_logprobs"],
  [ask("", { logprobs: true, top_logprobs: 21 }), "chat/completions", "top_logprobs"],
  [ask("", { logit_bias: { x: 1 } }), "chat/completions", "logit_bias"],
  [ask("", { logit_bias: { 999999: 1 } }), "chat/completions", "logit_bias"],
  [ask("", { logit_bias: { 5: 101 } }), "chat/completions", "logit_bias.5"],
  [ask("", { tool_choice: "required" }), "chat/completions", "tool_choice"],
  [ask("", { tool_choice: { type: "function", function: { name: "f" } } }), "chat/completions", "tool_choice"],
  [ask("", { response_format: { type: "xml" } }), "chat/completions", "response_format.type"],
  [ask("", { response_format: { type: "json_schema", json_schema: { schema: { type: "strin" } } } }), "chat/completions", "response_format.json_schema.schema"],
  [ask("", { tools: [{ type: "function", function: { name: "a b" } }] }), "chat/completions", "tools[0].function.name"],
  [ask("", { tools: [{ type: "function", function: { name: "f", strict: true, parameters: { type: "array", uniqueItems: true } } }] }), "chat/completions", "tools[0].function.parameters"],
  [ask("", { tools: [{ type: "function", function: { name: "f", parameters: { type: 5 } } }] }), "chat/completions", "tools"],
  [ask("word ".repeat(3000)), "chat/completions", "messages"],
  [{ prompt: 5 }, "completions", "prompt"],
  [{ prompt: [99999999] }, "completions", "prompt[0]"],
  [{ prompt: ["a", "b"] }, "completions", "prompt"],
  [{ prompt: "" }, "completions", "prompt"],
  [{ prompt: "a", logprobs: 21 }, "completions", "logprobs"],
  [{ prompt: "a", logprobs: 2, echo: true }, "completions", "logprobs"],
  [{}, "embeddings", "input"],
  [{ input: "" }, "embeddings", "input"],
  [{ input: [] }, "embeddings", "input"],
  [{ input: ["a", ""] }, "embeddings", "input[1]"],
  [{ input: [1, "a"] }, "embeddings", "input[1]"],
  [{ input: [[99999999]] }, "embeddings", "input[0][0]"],
  [{ input: { a: 1 } }, "embeddings", "input"],
  [{ input: Array(2049).fill("a") }, "embeddings", "input"],
  [{ input: "word ".repeat(5000) }, "embeddings", "input"],
  [{ input: "a", dimensions: 7 }, "embeddings", "dimensions"],
  [{ input: "a", dimensions: "all" }, "embeddings", "dimensions"],
  [{ input: "a", encoding_format: "hex" }, "embeddings", "encoding_format"],
  [{ input: "a", pooling: "max" }, "embeddings", "pooling"],
  [{}, "responses", "input"],
  [{ input: [{ type: "computer_call" }] }, "responses", "input[0].type"],
  [{ input: "a", top_logprobs: -1 }, "responses", "top_logprobs"],
  [{ input: "a", include: "message.output_text.logprobs" }, "responses", "include"],
  [{ input: "a", previous_response_id: "resp_1" }, "responses", "previous_response_id"],
  [{ input: "a", text: { format: { type: "json_schema" } } }, "responses", "text.format.schema"],
  [{ input: "a", tools: [{ type: "computer" }] }, "responses", "tools[0].type"],
];
await check(`${wrong.length} wrong bodies get 400 and their parameter's name`, async () => {
  for (const [body, path, param] of wrong) {
    const shown = JSON.stringify(body).slice(0, 80);
    const sent = typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const response = await fetch(`${server.url}/v1/${path}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: sent });
    const text = await response.text();
    if (param === "tools" && response.status === 200) continue; // a schema may be odd and still be shown
    assert.equal(response.status, 400, `${shown}: ${text}`);
    const { error } = JSON.parse(text);
    assert.equal(error.type, "invalid_request_error", shown);
    assert.equal(error.param, param, `${shown}: ${text}`);
    assert.ok(error.message.length > 10, shown);
  }
});

await check("other models, types of content, paths, methods and hosts", async () => {
  assert.equal((await post(chat, ask("Hello", { model: "gpt-4" }))).status, 404);
  assert.equal((await post(chat, "{}", { headers: { "Content-Type": "text/plain" } })).status, 415);
  assert.equal((await post(chat, JSON.stringify(ask("x".repeat(200000))))).status, 413);
  assert.equal((await fetch(server.url + "/v2")).status, 404);
  assert.equal((await fetch(chat)).status, 404);
  assert.equal((await fetch(server.url + "/health", { headers: { Origin: "http://example.com" } })).headers.get("access-control-allow-origin"), null);
  const raw = await send("GET /health HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
  assert.match(raw, /^HTTP\/1.1 403/);
});

// Sends bytes and returns what comes until the connection ends.
function send(bytes) {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve) => {
    let text = "";
    const socket = net.connect(port, hostname, () => socket.write(bytes));
    socket.on("data", (data) => (text += data));
    socket.on("close", () => resolve(text));
    socket.on("error", () => resolve(text));
  });
}

await check("a body without a declared length is limited too", async () => {
  const chunk = "186A0\r\n" + "x".repeat(100000) + "\r\n";
  const head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
  assert.doesNotMatch(await send(head + chunk + chunk + "0\r\n\r\n"), /^HTTP\/1.1 [25]00/);
});

await check("300 mutilated bodies: never 500", async () => {
  const whole = JSON.stringify(ask("Hi", { max_tokens: 1, tools: [{ type: "function", function: { name: "f", parameters: { type: "object" } } }], stop: ["a"] }));
  let seed = 12345;
  const random = (n) => ((seed = (seed * 1103515245 + 12345) % 2147483648), seed % n);
  for (let round = 0; round < 300; round++) {
    const bytes = Buffer.from(whole);
    for (let i = 0; i <= random(4); i++) bytes[random(bytes.length)] = random(256);
    const response = await fetch(chat, { method: "POST", headers: { "Content-Type": "application/json" }, body: bytes.subarray(0, random(8) ? bytes.length : random(bytes.length)) });
    assert.ok(response.status < 500, `${response.status} for ${bytes}`);
    await response.text();
  }
});

await check("what a model says at a high temperature is never an error", async () => {
  const answers = await Promise.all(Array.from({ length: 8 }, (_, seed) => post(chat, ask("Hello", { temperature: 2, seed, max_tokens: 60 }))));
  for (const response of answers) assert.equal(response.status, 200, await response.clone().text());
});

await check("12 clients, each with a sum of its own, get their own", async () => {
  const sum = async (i) => {
    const response = await post(chat, ask(`What is ${i + 10} + ${3 * i + 20}?`, { stream: i % 2 === 1 }));
    assert.equal(response.status, 200);
    const text = await response.text();
    if (i % 2 === 0) return JSON.parse(text).choices[0].message.content;
    return text.split("\n\n").filter((e) => e.startsWith("data: {")).map((e) => JSON.parse(e.slice(6)).choices[0].delta.content ?? "").join("");
  };
  const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => sum(i)));
  answers.forEach((text, i) => assert.ok(text.startsWith(`${i + 10} + ${3 * i + 20} = `), `${i}: ${text}`));
});

const long = (more = {}) => ({ prompt: "One, two, three", max_tokens: 900, ...more, temperature: 1, seed: 1 });
const idle = async () => (await metrics(server.url)).gptoss_requests_running === 0;

await check("a flood past the queue gets 429 and no more is lost", async () => {
  const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => post(chat, ask(`What is ${i} + 1?`, { max_tokens: 20 }))));
  const count = (status) => answers.filter((response) => response.status === status).length;
  assert.equal(count(200) + count(429), 40);
  assert.ok(count(200) >= 12 && count(429) > 0, `${count(200)} answered, ${count(429)} refused`);
  const refused = answers.find((response) => response.status === 429);
  assert.ok(refused.headers.get("retry-after"));
  assert.equal((await refused.json()).error.code, "queue_full");
});

for (const stream of [false, true]) {
  await check(`clients that go away free their contexts, ${stream ? "streamed" : "whole"}`, async () => {
    const before = (await metrics(server.url)).gptoss_disconnects_total;
    const controller = new AbortController();
    const gone = Array.from({ length: 8 }, () => post(server.url + "/v1/completions", long({ stream }), { signal: controller.signal }).then((r) => r.text()).catch(() => {}));
    await until(async () => (await metrics(server.url)).gptoss_requests_running > 0, "the requests to run");
    controller.abort();
    await Promise.all(gone);
    await until(idle, "the contexts to be free");
    await until(async () => (await metrics(server.url)).gptoss_disconnects_total > before, "the disconnects to be counted");
    const answer = await (await post(chat, ask("What is 12 + 30?"))).json();
    assert.equal(answer.choices[0].message.content, "12 + 30 = 42.");
  });
}

await check("SIGTERM", async () => assert.equal(await server.stop(), 0));

await check("a deadline", async () => {
  const hurried = await start(program, nano, "--timeout", "0.3");
  const response = await post(hurried.url + "/v1/completions", long());
  assert.equal(response.status, 504);
  assert.equal((await response.json()).error.code, "timeout");
  assert.equal(await hurried.stop(), 0);
});
finish();
