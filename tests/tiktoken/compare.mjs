// The same tokens as npm's tiktoken on more than 5 MB of mixed text, and how much faster they come.
//
//     npm install && node compare.mjs ../../build/examples/bench_text [--min-speedup 2]
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { get_encoding } from "tiktoken";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const bench = process.argv[2] ?? join(root, "build", "examples", "bench_text");
const minSpeedup = Number(process.argv[process.argv.indexOf("--min-speedup") + 1] || 0);

// Numbers from a fixed seed (xorshift32), so that every run sees the same text.
let state = 20250805;
function below(n) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = (list) => list[below(list.length)];

function filesBelow(folder, extensions, found = []) {
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (/^(\.|build|node_modules$|target$)/.test(entry.name)) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) filesBelow(path, extensions, found);
    else if (extensions.includes(extname(path)) && statSync(path).size < 400000) found.push(path);
  }
  return found;
}

function sourceCode(size) {
  const files = filesBelow(root, [".cpp", ".h", ".c", ".py", ".js", ".mjs", ".cjs", ".ts", ".json", ".md", ".comp", ".glsl", ".txt", ".rs"]);
  let text = "";
  while (text.length < size) for (const file of files) if (text.length < size) text += readFileSync(file, "utf8");
  return text;
}

const scripts =
  "Latin Greek Cyrillic Armenian Hebrew Arabic Syriac Thaana Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Tibetan Myanmar Georgian Hangul Ethiopic Cherokee Khmer Mongolian Hiragana Katakana Bopomofo Han Yi Gothic Deseret Adlam Vai Common Inherited".split(" ");
const letters = scripts.map((script) => {
  const pattern = new RegExp(`\\p{Script=${script}}`, "u");
  const found = [];
  for (let c = 0; c < 0x30000; c++) if ((c < 0xd800 || c > 0xdfff) && pattern.test(String.fromCodePoint(c))) found.push(c);
  return found;
});

// Words of one script after another, with the white space, digits, punctuation and apostrophes that the pattern cares about.
function manyScripts(size) {
  const glue = [" ", " ", " ", "  ", "\n", "\r\n", "\t", ", ", ". ", "'s ", "'LL ", "’", "-", "/", " (", ") ", "\u00a0", "\u3000", "\u0085", "\u180e", "\u200b", "123", "4567 ", "…\n\n"];
  let text = "";
  while (text.length < size) {
    const alphabet = pick(letters);
    for (let words = 3 + below(30); words > 0; words--) {
      for (let n = 1 + below(9); n > 0; n--) text += String.fromCodePoint(pick(alphabet));
      text += pick(glue);
    }
  }
  return text;
}

function emoji(size) {
  const modifiers = ["", "", "\u{1f3fb}", "\u{1f3fd}", "\u200d", "\ufe0f", "\u{e0067}", " "];
  let text = "";
  while (text.length < size) text += String.fromCodePoint(pick([0x1f300 + below(0x400), 0x1f900 + below(0x100), 0x2600 + below(0x1c0), 0x1f1e6 + below(26)])) + pick(modifiers);
  return text;
}

// tiktoken takes strings, so what is not UTF-8 in random bytes becomes U+FFFD first.
function randomBytes(size) {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = below(256);
  return new TextDecoder().decode(bytes);
}

// What a keyboard types, in no order, and control characters.
function ascii(size) {
  const units = ["'s", "'LL", "\r\n", "  ", "//", "word", "Word", "WORD", "12", "\t"];
  let text = "";
  while (text.length < size) text += below(3) ? String.fromCharCode(below(128)) : pick(units);
  return text;
}

function anyCharacters(size) {
  let text = "";
  while (text.length < size) {
    const c = below(0x110000);
    if (c < 0xd800 || c > 0xdfff) text += String.fromCodePoint(c) + (below(3) ? "" : pick([" ", "a", "A", "1", "\n", "!"]));
  }
  return text;
}

// Every character of the code space once, each beside a letter, a digit, a space and punctuation.
function everyCharacter() {
  let text = "";
  const after = ["'s ", "a", "A", "1", " ", "!", "\n"];
  for (let c = 0; c < 0x110000; c++)
    if (c < 0xd800 || c > 0xdfff) text += String.fromCodePoint(c) + "'s " + String.fromCodePoint(c) + after[c % 7];
  return text;
}

const samples = {
  "source code": sourceCode(2500000),
  "many scripts": manyScripts(1000000),
  emoji: emoji(300000),
  ASCII: ascii(1000000),
  "random bytes": randomBytes(700000),
  "any characters": anyCharacters(600000),
  "every character": everyCharacter(),
  "special names": "<|start|>assistant<|channel|>final<|message|>x<|endofprompt|><|<|end|>".repeat(2000),
};

const folder = mkdtempSync(join(tmpdir(), "gptoss-"));
const file = join(folder, "text");
const encoder = get_encoding("o200k_base");
let bytes = 0;
let different = 0;
try {
  for (const [name, text] of Object.entries(samples)) {
    writeFileSync(file, text);
    const raw = execFileSync(bench, ["--tokens", file], { maxBuffer: 1 << 30 });
    const ours = new Uint32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
    const theirs = encoder.encode_ordinary(text);
    let at = 0;
    while (at < Math.max(ours.length, theirs.length) && ours[at] === theirs[at]) at++;
    const same = at === theirs.length && at === ours.length;
    bytes += statSync(file).size;
    console.log(`${name}: ${statSync(file).size} bytes, ${theirs.length} tokens, ${same ? "the same" : `different from token ${at}`}`);
    if (!same) {
      different++;
      const show = (tokens) => JSON.stringify(new TextDecoder().decode(encoder.decode(tokens.slice(Math.max(0, at - 3), at + 6))));
      console.log(`  ours   ${ours.slice(at, at + 8)} ${show(ours)}\n  theirs ${theirs.slice(at, at + 8)} ${show(theirs)}`);
    }
  }
  console.log(`${bytes} bytes in all`);

  const text = samples["source code"] + samples["many scripts"];
  writeFileSync(file, text);
  let best = Infinity;
  for (let run = 0; run < 3; run++) {
    const start = process.cpuUsage();
    encoder.encode_ordinary(text);
    const used = process.cpuUsage(start);
    best = Math.min(best, (used.user + used.system) / 1e6);
  }
  const output = execFileSync(bench, [file], { encoding: "utf8" });
  const ours = Number(/encode: ([0-9.]+) MB\/s/.exec(output)[1]);
  const theirs = statSync(file).size / best / 1e6;
  process.stdout.write(output);
  console.log(`npm's tiktoken: ${theirs.toFixed(1)} MB/s; ours is ${(ours / theirs).toFixed(1)} times as fast`);
  if (ours < minSpeedup * theirs) {
    console.log(`slower than ${minSpeedup} times`);
    different++;
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(different ? 1 : 0);
