// Judges what `answers` prints, on standard input: answers.mjs CASES. Every text is valid by ajv, every turn is whole for
// OpenAI's harmony, which makes the messages of it that our parser makes.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import Ajv from "ajv/dist/2020.js";
import formats from "ajv-formats";

const require = createRequire(import.meta.url);

// harmony fetches its code and its vocabulary; both are here.
async function loadHarmony() {
  const { bpe_ranks: lines } = JSON.parse(readFileSync(require.resolve("tiktoken/encoders/o200k_base.json"), "utf8"));
  let vocabulary = "";
  for (const line of lines.split("\n").filter(Boolean)) {
    const [, first, ...tokens] = line.split(" ");
    tokens.forEach((token, i) => (vocabulary += `${token} ${Number(first) + i}\n`));
  }
  globalThis.fetch = async (request) => {
    const url = String(request.url ?? request);
    if (url.startsWith("file:")) return new Response(readFileSync(new URL(url)), { headers: { "content-type": "application/wasm" } });
    return Object.defineProperty(new Response(vocabulary), "url", { value: url });
  };
  const { load_harmony_encoding } = await import("openai-harmony");
  return load_harmony_encoding("HarmonyGptOss");
}

const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));
const ajv = new Ajv({ strict: false, allErrors: false });
formats(ajv);
const any = () => true;
const schemas = cases.schemas.map((schema) => ajv.compile(schema));
const turns = cases.turns.map((turn) => ({
  choice: turn.tool_choice ?? "auto",
  reasoning: turn.reasoning ?? true,
  final: turn.response_format ? ajv.compile(turn.response_format) : null,
  tools: Object.fromEntries((turn.tools ?? []).map((tool) => tool.function ?? tool)
    .map((tool) => [`functions.${tool.name}`, tool.parameters ? ajv.compile(tool.parameters) : any])),
}));
const harmony = await loadHarmony();
const stopToken = 2, grammarEnd = 5; // reasons of gptoss.h
const specials = new Set(harmony.specialTokens());

function isValid(validate, text) {
  try {
    return validate(JSON.parse(text));
  } catch {
    return false;
  }
}

// What is wrong with an answer, or "".
function wrongText(answer) {
  // a text that could go on ends with a stop token
  const parts = answer.reason === stopToken ? answer.parts.slice(0, -1) : answer.parts;
  if (parts.some((part) => part.special)) return "a special token";
  const text = parts.map((part) => part.text).join("");
  return isValid(schemas[answer.case], text) ? "" : "not valid";
}

function wrongTurn(answer) {
  const turn = turns[answer.case - schemas.length];
  const tokens = answer.parts.flatMap((part) =>
    [...(part.special ? harmony.encode(part.special, specials) : harmony.encode(part.text, new Set()))]);
  let messages;
  try {
    messages = JSON.parse(harmony.parseMessagesFromCompletionTokens(new Uint32Array(tokens), "assistant"));
  } catch (error) {
    return `harmony: ${error}`;
  }
  if (answer.malformed) return "malformed to our parser";
  const last = messages.at(-1);
  const ending = answer.parts.at(-1).special;
  if (last.channel === "final" ? ending !== "<|return|>" : ending !== "<|call|>") return `ends with ${ending}`;
  const same = (a, b) => ["channel", "recipient", "content_type"].every((key) => (a[key] ?? "") === (b[key] ?? ""));
  const text = (message) => (typeof message.content === "string" ? message.content : message.content.map((c) => c.text).join(""));
  if (messages.length !== answer.messages.length) return "other messages than our parser's";
  for (const [i, message] of messages.entries()) {
    if (!same(message, answer.messages[i]) || text(message) !== text(answer.messages[i])) return "other messages than our parser's";
    if (message.channel === "analysis" && !turn.reasoning) return "reasons";
    if (message.recipient && i + 1 < messages.length) return "goes on after a call";
  }
  if (last.recipient) {
    if (turn.choice === "none") return "calls";
    if (turn.choice.name && last.recipient !== `functions.${turn.choice.name}`) return "calls another function";
    return isValid(turn.tools[last.recipient] ?? (() => false), text(last)) ? "" : "arguments are not valid";
  }
  if (turn.choice !== "auto" && turn.choice !== "none") return "does not call";
  return !turn.final || isValid(turn.final, text(last)) ? "" : "the answer is not valid";
}

const count = new Map();
let passed = 0, failed = 0, tokens = 0, forced = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const answer = JSON.parse(line);
  const wrong = answer.reason !== stopToken && answer.reason !== grammarEnd ? `ended for reason ${answer.reason}`
    : answer.case < schemas.length ? wrongText(answer) : wrongTurn(answer);
  count.set(answer.case, (count.get(answer.case) ?? 0) + 1);
  tokens += answer.tokens;
  forced += answer.forced;
  if (!wrong) passed++;
  else if (failed++ < 20) console.log(`case ${answer.case}: ${wrong}: ${JSON.stringify(answer.parts).slice(0, 400)}`);
}
console.log(`${count.size} of ${schemas.length + turns.length} cases, ${tokens} tokens, ${forced} of them forced`);
if (count.size !== schemas.length + turns.length) failed++;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
