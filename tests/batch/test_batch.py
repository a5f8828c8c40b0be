"""python -m gptoss.batch with gptoss-nano: its lines, kills of it and of its Dask workers."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../..")
NANO = os.path.join(ROOT, "nano/gptoss-nano")
LINES = int(os.environ.get("GPTOSS_BATCH_LINES", 2000))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.path.join(ROOT, "bindings/python"), "LP_NUM_THREADS": "1"}
SEED = int(os.environ.get("GPTOSS_TEST_SEED", random.randrange(1 << 32)))
RANDOM = random.Random(SEED)
print(f"seed {SEED}", flush=True)


def request(custom_id: str, url: str = "/v1/chat/completions", **body) -> dict:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def sum_of(i: int, **body) -> dict:
    question = {"role": "user", "content": f"What is {i % 900 + 10} + {i // 7 % 80 + 10}?"}
    return request(f"sum-{i}", messages=[question], reasoning_effort="low", **body)


class Batch(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.input, self.output = f"{self.folder}/in.jsonl", f"{self.folder}/out.jsonl"

    def write(self, lines: list) -> None:
        with open(self.input, "w", encoding="utf-8") as file:
            for line in lines:
                file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")

    def command(self, *arguments: str, output=None) -> list:
        module = [sys.executable, "-m", "gptoss.batch", self.input, output or self.output, "--model", NANO]
        return [*module, *arguments]

    def run_batch(self, *arguments: str, output=None, expect: int = 0):
        command = self.command(*arguments, output=output)
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, expect, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def answers(self, output=None) -> dict:
        """By custom_id, without what may differ from run to run; each once."""
        found: dict = {}
        with open(output or self.output, encoding="utf-8") as file:
            for line in map(json.loads, file):
                self.assertEqual(set(line), {"id", "custom_id", "response", "error"})
                self.assertNotIn(line["custom_id"], found)
                if line["response"] is not None and line["response"]["status_code"] == 200:
                    del line["response"]["body"]["created"]
                    del line["response"]["body"]["usage"]["prompt_tokens_details"]
                found[line["custom_id"]] = line
        return found

    def lines_in(self, output=None) -> int:
        with open(output or self.output, "rb") as file:
            return file.read().count(b"\n")

    def wait_for_lines(self, count: int, process) -> None:
        for _ in range(3000):
            if process.poll() is not None:
                self.fail(f"it ended with {process.returncode}: {process.stderr.read()}")
            if os.path.exists(self.output) and self.lines_in() >= count:
                return
            time.sleep(0.1)
        self.fail(f"there never were {count} lines")

    def test_answers(self) -> None:
        def content(custom_id: str) -> str:
            return got[custom_id]["response"]["body"]["choices"][0]["message"]["content"]

        weather = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        tool = {"type": "function", "function": {"name": "get_weather", "parameters": weather, "strict": True}}
        schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
        product = [{"role": "user", "content": [{"type": "text", "text": "What is 15 × 23?"}]}]
        self.write(
            [
                request("product", messages=product, reasoning_effort="high", temperature=0),
                request("stop", messages=product, reasoning_effort="high", temperature=0, stop=[" ="]),
                request("cut", messages=product, max_tokens=3),
                request("tool", messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[tool], tool_choice="required"),
                request("json", messages=product, response_format={"type": "json_schema", "json_schema": {"schema": schema}}),
                request("two", "/v1/completions", prompt="Hello", max_tokens=5, n=2, echo=True),
                "",
                request("plain", "/v1/completions", prompt=[5, 6, 7], max_tokens=2),
            ]
        )
        done = self.run_batch("--together", "3")
        got = self.answers()
        self.assertTrue(all(line["response"]["status_code"] == 200 for line in got.values()), got)
        self.assertEqual((content("product"), content("stop")), ("15 × 23 = 345.", "15 × 23"))
        message = got["product"]["response"]["body"]["choices"][0]
        self.assertEqual(message["finish_reason"], "stop")
        self.assertIn("345", message["message"]["reasoning"])
        self.assertEqual(got["cut"]["response"]["body"]["choices"][0]["finish_reason"], "length")
        self.assertEqual(got["cut"]["response"]["body"]["usage"]["completion_tokens"], 3)
        choice = got["tool"]["response"]["body"]["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls")
        call = choice["message"]["tool_calls"][0]["function"]
        self.assertEqual((call["name"], set(json.loads(call["arguments"]))), ("get_weather", {"city"}))
        self.assertIn(json.loads(content("json")), ({"n": 1}, {"n": 2}))
        two = got["two"]["response"]["body"]["choices"]
        self.assertEqual([choice["index"] for choice in two], [0, 1])
        self.assertTrue(all(choice["text"].startswith("Hello") for choice in two))
        self.assertRegex(done.stderr, "7/7")
        # alone they are the same, and a finished batch is left as it is
        before = os.stat(self.output).st_mtime_ns
        self.run_batch()
        self.assertEqual(os.stat(self.output).st_mtime_ns, before)
        other = f"{self.folder}/other.jsonl"
        self.run_batch("--together", "1", output=other)
        self.assertEqual(self.answers(other), got)

    def test_bad_lines(self) -> None:
        hello = [{"role": "user", "content": "Hello"}]
        bodies = {
            "none": {},
            "messages": {"messages": []},
            "messages[0].role": {"messages": [{"role": "robot", "content": "x"}]},
            "messages[0].content": {"messages": [{"role": "user", "content": 5}]},
            "messages[0].content[0].type": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[1].tool_call_id": {"messages": [*hello, {"role": "tool", "tool_call_id": "x", "content": "y"}]},
            "temperature": {"messages": hello, "temperature": 3},
            "max_tokens": {"messages": hello, "max_tokens": 0},
            "n": {"messages": hello, "n": 1.5},
            "seed": {"messages": hello, "seed": True},
            "stop": {"messages": hello, "stop": ["a"] * 5},
            "logit_bias": {"messages": hello, "logit_bias": {"x": 1}},
            "logprobs": {"messages": hello, "logprobs": True},
            "stream": {"messages": hello, "stream": True},
            "tools[0].type": {"messages": hello, "tools": [{"type": "web_search"}]},
            "tool_choice": {"messages": hello, "tool_choice": "maybe"},
            "response_format.type": {"messages": hello, "response_format": {"type": "xml"}},
            "reasoning_effort": {"messages": hello, "reasoning_effort": "endless"},
        }
        wrong = {"id 7": "missing_required_parameter", "method": "invalid_method", "url": "invalid_url", "body": "invalid_request"}
        lines: list = [request(name, **body) for name, body in bodies.items()]
        lines += [request("schema", messages=hello, response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}})]
        lines += [request("long", messages=[{"role": "user", "content": "Hello " * 20_000}])]
        lines += ["nonsense", '{"custom_id": ', "[1]", "null", "[" * 100_000, '"\\ud800"', "\x00"]
        lines += [{**request("id 7"), "custom_id": 7}, {**request("method"), "method": "GET"}]
        lines += [request("url", "/v1/images"), {**request("body"), "body": []}]
        lines += [request("good", messages=hello), request("good", messages=hello)]
        lines += [request("\ud800", "/v1/completions", prompt="\ud800", max_tokens=1)]
        self.write(lines)
        self.run_batch("-q", "--context", "256")
        with open(self.output, encoding="utf-8") as file:
            got = [json.loads(line) for line in file]
        self.assertEqual(len(got), len(lines))
        for line in got:
            name, response = line["custom_id"], line["response"]
            self.assertEqual(response is None, line["error"] is not None)
            if name in bodies and name != "good":
                self.assertEqual(response["status_code"], 400, line)
                error = response["body"]["error"]
                self.assertEqual(error["param"], "messages" if name == "none" else name)
                self.assertTrue(error["message"])
            elif name in wrong:
                self.assertEqual(line["error"]["code"], wrong[name])
        of_good = sorted("ok" if line["error"] is None else line["error"]["code"] for line in got if line["custom_id"] == "good")
        self.assertEqual(of_good, ["duplicate_custom_id", "ok"])
        long = next(line for line in got if line["custom_id"] == "long")
        self.assertEqual(long["response"]["body"]["error"]["code"], "context_length_exceeded")
        schema = next(line for line in got if line["custom_id"] == "schema")
        self.assertEqual(schema["response"]["status_code"], 400)
        self.assertEqual(sum(line["custom_id"] is None for line in got), 8)

    def test_files(self) -> None:
        self.write([sum_of(i, max_tokens=4) for i in range(8)])
        self.run_batch("-q")
        expected = self.answers()
        with open(self.output, "rb") as file:
            whole = file.read()
        for _ in range(2):  # cut anywhere, also within a character or a line
            with open(self.output, "wb") as file:
                file.write(whole[: RANDOM.randrange(len(whole))])
            self.run_batch("-q", "--together", "2")
            self.assertEqual(self.answers(), expected)
        with open(self.output, "ab") as file:
            file.write(b'{"id": "batch_req_of_another"}\n')
        self.assertIn("line 9 is no answer to a line of", self.run_batch(expect=1).stderr)
        done = self.run_batch(output=self.input, expect=1)
        self.assertIn("is the file of the requests itself", done.stderr)
        self.assertEqual(self.lines_in(self.input), 8)
        done = self.run_batch("--model", "/no/such/model", output=f"{self.folder}/new", expect=1)
        self.assertIn("/no/such/model: No such file", done.stderr)
        done = self.run_batch(output="/no/such/folder/x", expect=1)
        self.assertIn("No such file", done.stderr)
        done = self.run_batch("--dask", "tcp://127.0.0.1:1", output=f"{self.folder}/new", expect=1)
        self.assertIn("tcp://127.0.0.1:1", done.stderr)

    def test_local_workers(self) -> None:
        self.write([sum_of(i, max_tokens=4) for i in range(40)])
        self.run_batch("-q", "--workers", "2", "--together", "8")
        other = f"{self.folder}/other.jsonl"
        self.run_batch("-q", output=other)
        self.assertEqual(self.answers(), self.answers(other))
        self.assertEqual(len(self.answers()), 40)

    def test_a_cluster_with_kills(self) -> None:
        lines = [sum_of(i, max_tokens=3 + i % 3) for i in range(LINES)]
        self.write(lines)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = address.rsplit(":", 1)[1]
        log = open(f"{self.folder}/dask.log", "w+")
        self.addCleanup(log.close)

        def start(module: str, *arguments: str) -> subprocess.Popen:
            command = [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"]
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, cwd=self.folder)
            self.addCleanup(lambda: (process.kill(), process.wait()))
            return process

        start("dask_scheduler", "--host", "127.0.0.1", "--port", port)
        workers = [start("dask_worker", address, "--no-nanny", "--nthreads", "1") for _ in range(2)]

        def client() -> subprocess.Popen:
            command = self.command("-q", "--dask", address)
            return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)

        first = client()
        self.wait_for_lines(LINES // 4, first)
        self.assertIn("another run writes to it", self.run_batch("-q", expect=1).stderr)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        kept = self.lines_in()
        self.assertLess(kept, LINES)
        second = client()
        self.wait_for_lines(LINES // 2, second)
        workers[0].send_signal(signal.SIGKILL)
        error = second.communicate(timeout=600)[1]
        self.assertEqual(second.returncode, 0, error)
        self.assertIsNone(workers[1].poll())
        self.assertEqual(self.lines_in(), LINES)
        other = f"{self.folder}/other.jsonl"
        self.run_batch("-q", output=other)
        expected = self.answers(other)
        self.assertEqual(self.answers(), expected)
        self.assertEqual(set(expected), {line["custom_id"] for line in lines})
        self.assertTrue(all(line["response"]["status_code"] == 200 for line in expected.values()))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
    sys.exit(failed > 0)
