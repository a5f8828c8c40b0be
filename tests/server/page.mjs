// The page in headless Chromium. With a third argument, a folder, screenshots are kept there.
import assert from "node:assert/strict";
import path from "node:path";
import { chromium } from "playwright-core";
import { check, finish, start } from "./server.mjs";

const [program, nano, shots] = process.argv.slice(2);
const server = await start(program, nano);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });

async function open(options) {
  const page = await browser.newPage(options);
  page.elsewhere = [];
  page.errors = [];
  page.on("request", (request) => request.url().startsWith(server.url) || page.elsewhere.push(request.url()));
  page.on("pageerror", (error) => page.errors.push(error.message));
  await page.goto(server.url + "/");
  return page;
}
const shoot = (page, name) => shots && page.screenshot({ path: path.join(shots, name + ".png") });
async function say(page, text) {
  await page.keyboard.type(text);
  await page.keyboard.press("Enter");
}
const answered = (page, n) => page.locator(".notes button").nth(n - 1).waitFor();

// Stands in for the model's words: what a model may say is up to it.
const answerWith = (page, text) =>
  page.route("**/v1/chat/completions", (route) => {
    const event = (delta, more = {}) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: null }], ...more })}\n\n`;
    route.fulfill({ contentType: "text/event-stream", body: event({ reasoning: "<b>thought</b>" }) + event({ content: text }) +
      event({ tool_calls: [{ index: 0, function: { name: "get_weather", arguments: '{"city": "<i>Paris</i>"}' } }] }) +
      `data: ${JSON.stringify({ choices: [], usage: { completion_tokens: 30 } })}\n\ndata: [DONE]\n\n` });
  });

await check("a question by keyboard alone, streamed, with folded reasoning and a speed", async () => {
  const page = await open({ colorScheme: "light" });
  assert.equal(await page.title().then(async () => (await page.waitForFunction(() => document.title !== "gpt-oss"), page.title())), "gptoss-nano");
  await page.selectOption("#effort", "high");
  await page.focus("#text");
  await say(page, "What is 15 × 23?");
  await answered(page, 1);
  assert.equal(await page.locator(".assistant .body").innerText(), "15 × 23 = 345.");
  assert.equal(await page.locator("details").getAttribute("open"), null);
  assert.match(await page.locator("details div").textContent(), /345/);
  assert.match(await page.locator(".notes").innerText(), /\d+ tokens, [\d.]+ tokens\/s/);
  await shoot(page, "light");
  await page.locator("summary").press("Enter");
  await page.locator("details[open]").waitFor();
  await page.locator(".notes button").click();
  await page.waitForFunction(() => document.querySelectorAll(".assistant .notes button").length === 1 && document.getElementById("send").textContent === "Send");
  assert.equal(await page.locator(".assistant").count(), 1);
  assert.deepEqual([page.elsewhere, page.errors], [[], []]);
  await page.close();
});

await check("stop", async () => {
  const page = await open();
  await page.selectOption("#effort", "high");
  await page.focus("#text");
  await say(page, "What is 987 × 654?");
  await page.waitForFunction(() => document.querySelector("details div")?.textContent.length > 5);
  await page.keyboard.press("Escape");
  await answered(page, 1);
  assert.match(await page.locator(".notes").innerText(), /Stopped/);
  await page.close();
});

await check("Markdown and hostile text, dark, on a phone", async () => {
  const page = await open({ colorScheme: "dark", viewport: { width: 360, height: 740 } });
  const text = ["# A title", "", "**Bold**, *italic*, `code` and [a link](https://example.com/).", "", "- one", "- two", "", "| a | b |", "|---|---|", "| 1 | 2 |", "",
    "```python", "print('<script>alert(1)</script>' + 'a long line that has to be scrolled')", "```", "",
    "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>", "[bad](javascript:alert(1))"].join("\n");
  await answerWith(page, text);
  await page.focus("#text");
  await say(page, "<u>Show</u> me everything.");
  await answered(page, 1);
  const count = (selector) => page.locator("main " + selector).count();
  for (const selector of ["h3", "strong", "em", "ul", "table", "pre"]) assert.equal(await count(selector), 1, selector);
  for (const selector of ["img", "script", "b", "i", "u"]) assert.equal(await count(selector), 0, selector);
  assert.deepEqual(await page.locator("main a").evaluateAll((links) => links.map((link) => link.href)), ["https://example.com/"]);
  assert.match(await page.locator(".call").innerText(), /get_weather.*Paris/);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  assert.notEqual(await page.title(), "taken");
  await shoot(page, "dark-phone");
  assert.deepEqual([page.elsewhere, page.errors], [[], []]);
  await page.close();
});
await browser.close();
await server.stop();
finish();
