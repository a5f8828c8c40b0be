// OpenAI's Codex against the server: its first request asks for a call of a function of Codex, which runs it and goes on.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, mkdir, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check, finish, post, start } from "./server.mjs";

const [program, model] = process.argv.slice(2);
const server = await start(program, model, "--context", "32768");
const folder = await mkdtemp(join(tmpdir(), "codex-"));

// Shortens what Codex tells a model, 20,000 tokens, which takes minutes without a GPU.
function shorten(json) {
  for (const [key, value] of Object.entries(json ?? {})) {
    if (["description", "text"].includes(key) && typeof value === "string") json[key] = value.slice(0, 80);
    else if (typeof value === "object") shorten(value);
  }
}

// Between Codex and the server: keeps the requests, and lets the first one ask for a call.
const requests = [];
const relay = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const asked = JSON.parse(body);
  requests.push(asked);
  shorten(asked.input);
  shorten(asked.tools);
  asked.tool_choice = "none";
  if (requests.length === 1) {
    asked.tool_choice = { type: "function", name: "get_goal" };
    asked.tools.find((tool) => tool.name === "get_goal").strict = true;
  }
  const answer = await post(server.url + request.url, asked);
  response.writeHead(answer.status, { "Content-Type": answer.headers.get("content-type") });
  for await (const part of answer.body) response.write(part);
  response.end();
});
await new Promise((resolve) => relay.listen(0, "127.0.0.1", resolve));

async function codex(question) {
  const home = join(folder, "home");
  const project = join(folder, "project");
  await mkdir(home, { recursive: true });
  await mkdir(project, { recursive: true });
  await writeFile(
    join(home, "config.toml"),
    `model = "gptoss-nano"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "http://127.0.0.1:${relay.address().port}/v1"
wire_api = "responses"
stream_max_retries = 0
`,
  );
  const child = spawn("node_modules/.bin/codex", ["exec", "--skip-git-repo-check", "--json", "-C", project, question], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, CODEX_HOME: home },
  });
  let lines = "";
  child.stdout.on("data", (data) => (lines += data));
  await new Promise((resolve) => child.on("exit", resolve));
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

await check("@openai/codex: a call, its result and an answer", async () => {
  const events = await codex("What is 12 + 30?");
  const types = events.map((event) => event.type);
  const what = JSON.stringify(events, null, 1);
  assert.equal(types.at(-1), "turn.completed", what);
  assert.equal(requests.length, 2, what);
  assert.ok(requests[0].tools.some((tool) => tool.type === "namespace"));
  const call = requests[1].input.find((item) => item.type === "function_call");
  const result = requests[1].input.find((item) => item.type === "function_call_output");
  assert.equal(call.name, "get_goal");
  assert.equal(result.call_id, call.call_id);
  assert.match(JSON.stringify(result.output), /goal/);
  const message = events.find((event) => event.item?.type === "agent_message");
  assert.ok(message.item.text.length > 0, what);
});

relay.close();
await server.stop();
await rm(folder, { recursive: true });
finish();
