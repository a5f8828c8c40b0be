// Clients of every kind at once, for a time: node load.mjs SERVER MODEL [SECONDS [CLIENTS]]. They ask for sums of their own,
// streamed and not, go away, read slowly, send what is no request, and flood the queue. Every answer is compared with that
// of an idle server, and the server's memory may not grow. Under AddressSanitizer the server also tells of what it lost.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import net from "node:net";
import { check, finish, metrics, post, start } from "./server.mjs";

const [program, nano, seconds = 600, clients = 64] = process.argv.slice(2);
const server = await start(program, nano, "--parallel", "16", "--queue", "24", "--context", "1024");
process.on("exit", () => server.child.kill("SIGKILL")); // where a check above fails
const url = server.url + "/v1/chat/completions";
const random = (n) => Math.floor(Math.random() * n);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const request = (i, more) => ({ messages: [{ role: "user", content: `What is ${i} + ${2 * i + 7}?` }], temperature: 0, max_tokens: 100, ...more });

// What each sum's answer is, right or wrong.
const sums = Array.from({ length: 40 }, (_, i) => 11 + 12 * i);
const expected = new Map();
for (const i of sums) {
  const answer = await (await post(url, request(i))).json();
  expected.set(i, answer.choices[0].message.content);
  assert.ok(expected.get(i).startsWith(`${i} + ${2 * i + 7} =`), expected.get(i));
}

const counts = { right: 0, wrong: 0, refused: 0, left: 0, malformed: 0 };
const firstToken = [];
const nextToken = [];
const wrong = (what) => {
  if (counts.wrong++ < 10) console.log(`WRONG: ${what}`);
};

async function whole(i) {
  const response = await post(url, request(i));
  const answer = await response.json();
  if (response.status === 429) counts.refused++;
  else if (answer.choices?.[0].message.content === expected.get(i)) counts.right++;
  else wrong(`${response.status} ${JSON.stringify(answer)} for ${i}`);
  if (response.status === 429) await pause(100);
}

// delay: milliseconds between one piece and the next. leave: after so many pieces.
async function streamed(i, { delay = 0, leave = Infinity } = {}) {
  const controller = new AbortController();
  const begin = performance.now();
  const response = await post(url, request(i, { stream: true }), { signal: controller.signal });
  if (response.status === 429) {
    counts.refused++;
    await response.text();
    return pause(100);
  }
  let text = "";
  let content = "";
  let last = 0; // when the piece before came
  let pieces = 0;
  const decoder = new TextDecoder();
  try {
    for await (const part of response.body) {
      const now = performance.now();
      const piece = decoder.decode(part, { stream: true });
      text += piece;
      if (/"(content|reasoning)":"[^"]/.test(piece)) {
        if (!delay) (last ? nextToken : firstToken).push(now - (last || begin));
        last = now;
      }
      if (++pieces > leave) {
        counts.left++;
        controller.abort();
        return;
      }
      if (delay) await pause(delay);
    }
  } catch (error) {
    if (pieces > leave) return;
    return wrong(error);
  }
  for (const event of text.split("\n\n"))
    if (event.startsWith("data: {")) content += JSON.parse(event.slice(6)).choices[0]?.delta.content ?? "";
  if (content === expected.get(i)) counts.right++;
  else wrong(`${text} for ${i}`);
}

// A body with a byte or a few changed, or cut: whatever it is, the server has no fault of its own.
async function malformed(i) {
  const bytes = Buffer.from(JSON.stringify(request(i, { max_tokens: 1, stop: ["x"] })));
  for (let n = 0; n <= random(3); n++) bytes[random(bytes.length)] = random(256);
  const response = await post(url, bytes.subarray(0, random(4) ? bytes.length : random(bytes.length)).toString("latin1"));
  await response.text();
  if (response.status >= 500) wrong(`${response.status} for a malformed body`);
  counts.malformed++;
}

// Half a request, and the connection ends; or bytes that are no HTTP.
function broken() {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve) => {
    const socket = net.connect(port, hostname, () => {
      socket.write(random(2) ? "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{" : "\x16\x03\x01\0\xff\r\n\r\n");
      setTimeout(() => socket.destroy(), random(50));
    });
    socket.on("close", resolve);
    socket.on("error", resolve);
    counts.malformed++;
  });
}

const end = Date.now() + 1000 * seconds;
async function client(number) {
  while (Date.now() < end) {
    const i = sums[random(sums.length)];
    const kind = number < 4 ? 7 : random(8);
    if (kind < 2) await whole(i);
    else if (kind < 4) await streamed(i);
    else if (kind === 4) await streamed(i, { leave: random(6) });
    else if (kind === 5) await streamed(i, { delay: 20 });
    else if (kind === 6) await broken();
    else for (let n = 0; n < 8; n++) await malformed(i);
  }
}

const status = (name) => Number(readFileSync(`/proc/${server.child.pid}/status`, "utf8").match(new RegExp(`^${name}:\\s+(\\d+)`, "m"))[1]);
const memory = [];
const sampler = setInterval(() => memory.push(status("VmRSS")), Math.max(1000, (1000 * seconds) / 100));
await Promise.all(Array.from({ length: Number(clients) }, (_, number) => client(number)));
clearInterval(sampler);

const percentile = (values, share) => values.sort((a, b) => a - b)[Math.floor(share * values.length)]?.toFixed(0);
console.log(JSON.stringify(counts));
console.log(`first token: p50 ${percentile(firstToken, 0.5)} ms, p99 ${percentile(firstToken, 0.99)} ms; next token: p50 ${percentile(nextToken, 0.5)} ms, p99 ${percentile(nextToken, 0.99)} ms`);
const quarter = Math.floor(memory.length / 4);
console.log(`resident: ${memory[quarter]} kB after a quarter of the time, ${memory.at(-1)} kB at the end; ${status("Threads")} threads`);

await check(`${counts.right} answers, each the one that was asked for`, () => {
  assert.equal(counts.wrong, 0);
  assert.ok(counts.right > seconds && counts.left > 0 && counts.refused > 0);
});
await check(`${counts.malformed} malformed requests`, () => assert.ok(counts.malformed >= Math.min(10000, 16 * seconds)));
await check("memory is flat", () => assert.ok(memory.at(-1) < 1.1 * memory[quarter] + 8192));
await check("nothing is left running", async () => {
  await pause(1000);
  const { gptoss_requests_running, gptoss_requests_waiting } = await metrics(server.url);
  assert.deepEqual([gptoss_requests_running, gptoss_requests_waiting], [0, 0]);
  const answer = await (await post(url, request(sums[0]))).json();
  assert.equal(answer.choices[0].message.content, expected.get(sums[0]));
});
await check("it ends without a fault", async () => assert.equal(await server.stop(), 0));
finish();
