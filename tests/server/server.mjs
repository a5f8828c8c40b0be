// Starts gptoss-server on a free port and stops it. Checks are counted; the last line is "N passed, N failed".
import { spawn } from "node:child_process";

export async function start(program, model, ...options) {
  const child = spawn(program, [model, "--port", "0", ...options], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = new Promise((resolve) => child.on("exit", (code, signal) => resolve(code ?? signal)));
  const url = await new Promise((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (data) => {
      text += data;
      const found = text.match(/http:\/\/\S+?(?=\/\n)/);
      if (found) resolve(found[0]);
    });
    exited.then((status) => reject(new Error(`the server ended with ${status}`)));
  });
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    return exited;
  };
  return { url, stop, exited, child };
}

let passed = 0;
let failed = 0;

export async function check(name, test) {
  const started = Date.now();
  try {
    await test();
    passed++;
    console.log(`passed: ${name} (${Date.now() - started} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}

export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}

export async function metrics(url) {
  const text = await (await fetch(url + "/metrics")).text();
  return Object.fromEntries(
    text
      .split("\n")
      .filter((line) => line && !line.startsWith("#"))
      .map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ") + 1))]),
  );
}

// Waits until it holds; fails after some seconds.
export async function until(condition, what, seconds = 10) {
  for (let i = 0; i < seconds * 20; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited ${seconds} s for ${what}`);
}

export const post = (url, body, more = {}) =>
  fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...more.headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
    signal: more.signal,
  });
