// OpenAI's compatibility test of the gpt-oss repository, against gptoss-server with gptoss-nano:
//     node compatibility.mjs FOLDER SERVER MODEL        FOLDER: its compatibility-test, which is copied and not changed
// Between the two stands a relay, because nano knows none of that test's tools and would talk for ever: it demands the
// call, strictly, then an answer of one form, and makes the end of a message likelier.
import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { check, finish, post, start } from "./server.mjs";

const [folder, program, nano] = process.argv.slice(2);
const server = await start(program, nano, "--parallel", "5", "--context", "4096");
const done = { type: "object", properties: { done: { const: true } }, required: ["done"], additionalProperties: false };

async function findEnd() {
  for (let token = 900; token < 1100; token++) {
    const answer = await post(`${server.url}/v1/completions`, { prompt: [token], echo: true, max_tokens: 1 });
    if ((await answer.json()).choices?.[0].text.startsWith("<|end|>")) return token;
  }
  throw new Error("the model has no <|end|>");
}
const end = await findEnd();

function steer(asked, path) {
  const chat = path.endsWith("/chat/completions");
  const items = JSON.stringify(asked.messages ?? asked.input);
  const called = items.includes(chat ? '"role":"tool"' : '"function_call_output"');
  for (const tool of asked.tools ?? []) (chat ? tool.function : tool).strict = true;
  asked.tool_choice = called ? "none" : "required";
  asked.logit_bias = { [end]: 8 };
  if (chat) asked.reasoning_effort = "high";
  else asked.reasoning = { effort: "high" };
  const format = { name: "done", strict: true, schema: done };
  if (called && chat) asked.response_format = { type: "json_schema", json_schema: format };
  else if (called) asked.text = { format: { type: "json_schema", ...format } };
  return asked;
}

const relay = http.createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const answer = await post(server.url + request.url, steer(JSON.parse(body), request.url));
  response.writeHead(answer.status, { "Content-Type": answer.headers.get("content-type") });
  for await (const part of answer.body) response.write(part);
  response.end();
});
await new Promise((ready) => relay.listen(0, "127.0.0.1", ready));

const work = mkdtempSync(path.join(os.tmpdir(), "compatibility-"));
try {
  cpSync(folder, work, { recursive: true, filter: (name) => !/rollout_|analysis_/.test(name) });
  const provider = {
    apiBaseUrl: `http://127.0.0.1:${relay.address().port}/v1`,
    apiKey: "none",
    apiType: ["responses", "chat"],
    modelName: "gptoss-nano",
  };
  writeFileSync(path.join(work, "providers.ts"), `export const PROVIDERS = ${JSON.stringify({ here: provider })};\n`);
  // It unwraps the events of Responses twice, and takes the last chunk of a chat, which has the usage alone, for a choice.
  const run = path.join(work, "runCase.ts");
  const patched = readFileSync(run, "utf8")
    .replace(/streamedEvents\.push\(([\w.]+)\)/, 'streamedEvents.push(apiType === "responses" ? event : $1)')
    .replaceAll("event.choices[0].delta", "event.choices[0]?.delta?");
  writeFileSync(run, patched);
  execFileSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: work, stdio: "inherit" });
  const cases = readFileSync(path.join(work, "cases.jsonl"), "utf8").trim().split("\n").length;
  for (const streaming of [false, true])
    await check(`${cases} cases in Responses and in chat${streaming ? ", streamed" : ""}`, async () => {
      const options = ["--provider", "here", "-k", "1", ...(streaming ? ["--streaming"] : [])];
      const child = spawn("npm", ["start", "--", ...options], { cwd: work, stdio: ["ignore", "ignore", "inherit"] });
      await new Promise((ended) => child.on("exit", ended));
      const file = path.join(work, readdirSync(work).filter((name) => name.startsWith("rollout_")).sort().at(-1));
      const records = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
      rmSync(file);
      const wrong = records.filter((record) => !record.success);
      for (const record of wrong) {
        const { result, ...what } = record;
        console.log(JSON.stringify({ ...what, ...(result && { ...result, history: undefined }) }));
      }
      const right = records.length - wrong.length;
      if (right !== 2 * cases) throw new Error(`${right} of ${2 * cases} are valid`);
    });
} finally {
  relay.close();
  rmSync(work, { recursive: true });
  await server.stop();
}
finish();
