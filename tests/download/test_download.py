"""gptoss-download, and hf: in the chat and the server, against a hub on loopback that fails in every way."""

import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from hub import COMMIT, Hub, entry

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.abspath(os.environ["GPTOSS_BUILD"])
NANO = os.path.join(HERE, "../../nano/gptoss-nano")
DOWNLOAD = f"{BUILD}/examples/gptoss-download"
SEED = int(os.environ.get("GPTOSS_TEST_SEED", random.randrange(1 << 32)))
print(f"seed {SEED}", flush=True)
RANDOM = random.Random(SEED)
REPO = "openai/gpt-oss-20b"
SHARDS = ["model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors"]
BIG = SHARDS[0]


def checkpoint() -> dict:
    index = json.dumps({"weight_map": {f"tensor{i}": shard for i, shard in enumerate(SHARDS)}}).encode()
    return {
        "config.json": b'{"model_type": "gpt_oss"}',
        "tokenizer.json": RANDOM.randbytes(30_000),
        "chat_template.jinja": "{# ä #}".encode(),
        "generation_config.json": b"{}",
        "model.safetensors.index.json": index,
        SHARDS[0]: RANDOM.randbytes(1_000_000),
        SHARDS[1]: RANDOM.randbytes(300_001),
    }


OTHERS = {
    "README.md": b"# gpt-oss",
    "extra.safetensors": b"x" * 100,
    "metal/model.bin": b"m" * 100,
    "original/model.safetensors": b"o" * 100,
    "original/config.json": b"{}",
}


class Download(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.files = checkpoint()

    def hub(self, files=None) -> Hub:
        hub = Hub(self.files if files is None else files)
        self.addCleanup(hub.close)
        return hub

    def environment(self, hub, **more: str) -> dict:
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
        return {**kept, "HF_ENDPOINT": hub.url, "GPTOSS_MODELS": f"{self.folder}/models", **more}

    def command(self, *arguments: str, repo: str = REPO, to=None) -> list:
        return [DOWNLOAD, repo, "--local-dir", to or f"{self.folder}/model", *arguments]

    def run_download(self, hub, *arguments: str, repo: str = REPO, to=None, env=None, expect: int = 0):
        done = subprocess.run(
            self.command(*arguments, repo=repo, to=to),
            env=self.environment(hub, **(env or {})),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, expect, done.stderr)
        return done

    def refused(self, hub, pattern: str, *arguments: str, **more):
        """It says why, and what is not right is not there under its name."""
        done = self.run_download(hub, *arguments, expect=1, **more)
        self.assertRegex(done.stderr, pattern)
        self.assertNotRegex(done.stderr, r"[\x00-\x09\x0b-\x1f\x7f]")
        self.assert_nothing_wrong()
        return done

    def found(self, folder=None) -> dict:
        """What a folder holds, without this program's own."""
        root, content = folder or f"{self.folder}/model", {}
        for where, _, names in os.walk(root):
            for name in names:
                if not name.startswith(".") and not name.endswith(".part"):
                    path = os.path.join(where, name)
                    with open(path, "rb") as file:
                        content[os.path.relpath(path, root)] = file.read()
        return content

    def assert_nothing_wrong(self) -> None:
        for path, data in self.found().items():
            self.assertEqual(data, self.files[path], path)

    def assert_whole(self, expected=None) -> None:
        self.assertEqual(self.found(), self.files if expected is None else expected)
        parts = [name for _, _, names in os.walk(f"{self.folder}/model") for name in names if name.endswith(".part")]
        self.assertEqual(parts, [])

    def test_what_is_needed_and_nothing_else(self) -> None:
        hub = self.hub({**self.files, **OTHERS})
        hub.page = 3
        hub.fault = lambda *_: time.sleep(0.1)
        done = self.run_download(hub)
        self.assertEqual(done.stdout, f"{self.folder}/model\n")
        self.assert_whole()
        self.assertEqual(sorted(hub.files_asked_for()), sorted(self.files))
        self.assertGreater(hub.most_at_once, 1)
        self.assertTrue(all(f"/resolve/{COMMIT}/" in path for path, _ in hub.requests if "/api/" not in path))
        # what is there is checked, and not fetched again; what is not right is
        hub.requests.clear()
        with open(f"{self.folder}/model/{BIG}", "r+b") as file:
            file.seek(500_000)
            file.write(b"wrong")
        done = self.run_download(hub)
        self.assertEqual(hub.files_asked_for(), [BIG])
        self.assertIn(f"{BIG}: replaces another of this name", done.stderr)
        self.assert_whole()
        listed = self.run_download(hub, "--list").stdout
        self.assertEqual(sorted(line.split()[1] for line in listed.splitlines()), sorted([*self.files, "extra.safetensors"]))

    def test_gguf(self) -> None:
        def part(i: int) -> str:
            return f"Q8_0/gpt-oss-Q8_0-{i:05}-of-00003.gguf"

        split = {part(i): RANDOM.randbytes(50_000) for i in (1, 2, 3)}
        one = {"gpt-oss-F16.gguf": RANDOM.randbytes(40_000)}
        both = {**split, **one, "config.json": b"{}"}
        hub = self.hub(both)
        self.files = both
        done = self.refused(hub, "has 2 models: name one of\n.*/Q8_0/gpt-oss-Q8_0-00001-of-00003.gguf\n.*/gpt-oss-F16.gguf")
        self.assertEqual(hub.files_asked_for(), [])
        done = self.run_download(hub, repo=f"{REPO}/{part(2)}")
        self.assertEqual(done.stdout, f"{self.folder}/model/{part(1)}\n")
        self.assert_whole(split)
        self.run_download(hub, repo=f"hf:{REPO}/gpt-oss-F16.gguf")
        self.assert_whole({**split, **one})
        self.refused(hub, "has no file other.gguf", repo=f"{REPO}/other.gguf")
        hub.listing = [listed for listed in hub.listing if listed["path"] != part(3)]
        self.refused(hub, "has 2 of the 3 files", repo=f"{REPO}/{part(1)}")
        hub.listing = [entry("README.md", b"")]
        self.refused(hub, "has no model")

    def test_cut_connections(self) -> None:
        hub = self.hub()
        hub.fault = lambda handler, path, start: (
            path in SHARDS and start + 150_000 < len(self.files[path])
            and (hub.send(handler, self.files[path], start, start + 150_000), True)[1]
        )
        # more cuts than attempts: those that brought something do not count
        done = self.run_download(hub, "--retries", "2")
        self.assert_whole()
        self.assertRegex(done.stderr, f"{BIG}: .*; again in 0.[0-9] s")
        ranges = [headers["Range"] for path, headers in hub.requests if path.endswith(BIG) and "Range" in headers]
        self.assertEqual(ranges, [f"bytes={i * 150_000}-" for i in range(1, 7)])
        self.assertEqual(hub.sent, sum(map(len, self.files.values())))

    def test_a_server_that_does_not_resume(self) -> None:
        hub = self.hub()
        hub.ranges = False
        cuts = iter([300_000, 600_000])

        def fault(handler, path, start):
            cut = next(cuts, None) if path == BIG else None
            return cut and (hub.send(handler, self.files[path], 0, cut), True)[1]

        hub.fault = fault
        self.run_download(hub)
        self.assert_whole()

    def test_busy(self) -> None:
        hub = self.hub()
        times = []

        def fault(handler, path, start):
            if path != BIG:
                return False
            times.append(time.monotonic())
            if len(times) == 1:
                hub.reply(handler, 429, Retry_After="2")
            elif len(times) == 2:
                hub.reply(handler, 503, b"later\x1b[2J")
            else:
                return False
            return True

        hub.fault = fault
        listed = iter([503, 429])

        def api_fault(handler):
            status = next(listed, None)
            return status and (hub.reply(handler, status), True)[1]

        hub.api_fault = api_fault
        done = self.run_download(hub)
        self.assert_whole()
        self.assertRegex(done.stderr, "the list of files: .*status 503; again")
        self.assertGreaterEqual(times[1] - times[0], 1.9)
        self.assertGreaterEqual(times[2] - times[1], 0.5)
        os.remove(f"{self.folder}/model/{BIG}")
        hub.fault = lambda handler, path, start: (hub.reply(handler, 503, Retry_After="0"), True)[1]
        self.refused(hub, r"status 503 \(after 3 attempts\)", "--retries", "2")
        hub.fault = lambda handler, path, start: (hub.reply(handler, 429, Retry_After="86400"), True)[1]
        self.refused(hub, "asks for a pause of 86400 s")

    def test_what_is_not_there(self) -> None:
        hub = self.hub()
        hub.api_fault = lambda handler: (hub.reply(handler, 401, X_Error_Message="Invalid username"), True)[1]
        self.refused(hub, "status 401: Invalid username .*set HF_TOKEN")
        hub.api_fault = lambda handler: (hub.reply(handler, 404, X_Error_Message="Revision \x1b[1mnot found"), True)[1]
        self.refused(hub, r"status 404: Revision \[1mnot found", "--revision", "refs/pr/7")
        self.assertIn("/revision/refs%2Fpr%2F7", hub.requests[-1][0])
        hub.api_fault = lambda handler: (hub.reply(handler, 200, b"<html>"), True)[1]
        self.refused(hub, "not JSON: is this a Hugging Face hub")
        for body in (b"{}", b'{"sha": "../.."}', b"[]", b"null"):
            hub.api_fault = lambda handler, body=body: (hub.reply(handler, 200, body), True)[1]
            self.refused(hub, "names no commit")
        hub.api_fault = lambda handler: False
        hub.fault = lambda handler, path, start: path == BIG and (hub.reply(handler, 404), True)[1]
        self.refused(hub, "status 404")
        self.assertLess(hub.files_asked_for().count(BIG), 2)
        for name in ("gpt-oss", "../x", "a/..", "a/b/c.txt", "a/b/../c.gguf", "-a/b", "a/b@", "a/b@../x", "/b", "a b/c"):
            done = subprocess.run([DOWNLOAD, f"hf:{name}"], env=self.environment(hub), capture_output=True, text=True)
            self.assertEqual(done.returncode, 1, name)
            self.assertIn("is no model of a hub: expected OWNER/NAME", done.stderr)
        done = self.run_download(hub, env={"HF_ENDPOINT": "file:///etc"}, expect=1)
        self.assertIn("HF_ENDPOINT is", done.stderr)
        done = self.run_download(hub, "--retries", "1", env={"HF_ENDPOINT": "http://127.0.0.1:1"}, expect=1)
        self.assertRegex(done.stderr, r"(?s)again in .*Failed to connect.*\(after 2 attempts\)")

    def test_wrong_sizes(self) -> None:
        hub = self.hub()
        data = self.files[BIG]
        for wrong in (data + b"more", data[:-5], b""):
            hub.files = {**self.files, BIG: wrong}
            self.refused(hub, f"the server has {len(wrong)} bytes, and the hub lists 1000000", "--retries", "1")

        def endless(handler, path, start):
            if path == BIG:
                handler.send_response(200)
                handler.end_headers()  # until the connection ends
                handler.wfile.write(data + data)
                handler.close_connection = True
            return path == BIG

        hub.files, hub.fault = self.files, endless
        self.refused(hub, "sends more than the 1000000 bytes", "--retries", "1")

        def other_range(handler, path, start):
            if path == BIG and start == 0:
                hub.send(handler, data, 0, 400_000)
            elif path == BIG:
                handler.send_response(206)
                handler.send_header("Content-Length", "600000")
                handler.send_header("Content-Range", "bytes 300000-899999/1000000")
                handler.end_headers()
                handler.wfile.write(data[300_000:900_000])
            return path == BIG

        hub.fault = other_range
        shutil.rmtree(f"{self.folder}/model")
        self.refused(hub, "sends bytes from 300000 on, and 400000 was asked for", "--retries", "1")
        hub.fault = lambda *_: False
        self.run_download(hub)
        self.assert_whole()

    def test_wrong_checksums(self) -> None:
        hub = self.hub()
        wrong = bytes([self.files[BIG][0] ^ 1]) + self.files[BIG][1:]
        bad = iter([wrong])

        def once(handler, path, start):
            data = next(bad, None) if path == BIG else None
            return data and (hub.send(handler, data), True)[1]

        hub.fault = once
        done = self.run_download(hub)
        self.assertRegex(done.stderr, f"{BIG}: its checksum is [0-9a-f]{{64}}, and the hub lists [0-9a-f]{{64}}; again")
        self.assert_whole()
        shutil.rmtree(f"{self.folder}/model")
        for path, digits in (("config.json", 40), (SHARDS[1], 64)):
            data = self.files[path]
            hub.fault = lambda handler, name, start: name == path and (hub.send(handler, data[:-1] + b"?"), True)[1]
            self.refused(hub, f"{path}: its checksum is [0-9a-f]{{{digits}}}, .*after 2 attempts", "--retries", "1")
            self.assertNotIn(path, self.found())
        hub.fault = lambda *_: False
        for listed in hub.listing:
            if listed["path"] == "config.json":
                listed["oid"] = "none"
        self.refused(hub, "lists config.json without a checksum")

    def test_a_part_that_holds_something_else(self) -> None:
        hub = self.hub()
        os.makedirs(f"{self.folder}/model")
        listed = {file["path"]: file for file in hub.listing}
        for shard, size in zip(SHARDS, (400_000, 900_000)):  # the second is longer than its file
            with open(f"{self.folder}/model/{shard}.{listed[shard]['lfs']['oid'][:12]}.part", "wb") as file:
                file.write(b"?" * size)
        self.run_download(hub)
        self.assert_whole()

    def test_names_that_leave_the_folder(self) -> None:
        evil = b"evil" * 5000
        for name in (
            "../evil.safetensors",
            "/tmp/evil.safetensors",
            "a/../../evil.gguf",
            "..\\evil.safetensors",
            "evil\n.safetensors",
            "evil\0.safetensors",
            "./evil.safetensors",
            "a//evil.gguf",
            "",
            "..",
            "e" * 1001,
        ):
            hub = self.hub()
            hub.listing.append(entry(name, evil))
            hub.files = {**self.files, name: evil}
            self.refused(hub, "which is no name for a file here")
            self.assertEqual(hub.files_asked_for(), [])
        self.assertEqual([name for name in os.listdir(self.folder) if "evil" in name], [])
        hub = self.hub()
        hub.listing.append(hub.listing[0])
        self.refused(hub, "lists config.json twice")
        path = "model.safetensors.index.json"
        self.files = {**self.files, path: json.dumps({"weight_map": {"x": "../../evil.safetensors"}}).encode()}
        self.refused(self.hub(), "index.json names ../../evil.safetensors, which is not in")
        self.files = {**self.files, path: b'["x"]'}
        self.refused(self.hub(), "index.json: has no weight_map")
        # a link in the place of a part is not followed
        self.files = checkpoint()
        hub = self.hub()
        target = f"{self.folder}/target"
        oid = next(listed["oid"] for listed in hub.listing if listed["path"] == "config.json")
        shutil.rmtree(f"{self.folder}/model", ignore_errors=True)
        os.makedirs(f"{self.folder}/model")
        os.symlink(target, f"{self.folder}/model/config.json.{oid[:12]}.part")
        self.refused(hub, "config.json.*: Too many levels of symbolic links")
        self.assertFalse(os.path.exists(target))

    def test_redirects_and_the_token(self) -> None:
        store, hub = self.hub(), self.hub()
        cut = iter([200_000])

        def store_fault(handler, path, start):
            end = next(cut, None) if path == BIG else None
            return end and (store.send(handler, self.files[path], start, end), True)[1]

        def elsewhere(handler, path, start):
            hub.reply(handler, 302, Location=store.url + handler.path)
            return True

        hub.fault, store.fault = elsewhere, store_fault
        self.run_download(hub, env={"HF_TOKEN": "hf_secret\n"})
        self.assert_whole()
        self.assertTrue(all(headers.get("Authorization") == "Bearer hf_secret" for _, headers in hub.requests))
        self.assertEqual([1 for _, headers in store.requests if "Authorization" in headers], [])
        self.assertIn("bytes=200000-", [headers.get("Range") for _, headers in store.requests])
        shutil.rmtree(f"{self.folder}/model")
        for to, error in ((hub.url, "redirect"), ("file:///etc/passwd#", "[Pp]rotocol")):
            hub.fault = lambda handler, path, start: (hub.reply(handler, 302, Location=to + handler.path), True)[1]
            self.refused(hub, error, "--retries", "0")
        hub.api_fault = lambda handler: "/tree/" in handler.path and (
            hub.reply(handler, 200, json.dumps(hub.listing).encode(), Link=f'<{store.url}/api/x>; rel="next"'), True
        )[1]
        self.refused(hub, "goes on at another address")

    def test_a_proxy(self) -> None:
        hub = self.hub()
        self.run_download(hub, env={"HF_ENDPOINT": "http://hub.invalid", "http_proxy": hub.url})
        self.assert_whole()
        self.assertTrue(all(headers["Host"] == "hub.invalid" for _, headers in hub.requests))

    def test_a_connection_that_stands_still(self) -> None:
        hub = self.hub()
        stalls = iter([True])

        def fault(handler, path, start):
            if path == BIG and next(stalls, False):
                handler.send_response(200)
                handler.send_header("Content-Length", "1000000")
                handler.end_headers()
                handler.wfile.write(self.files[BIG][:1000])
                handler.wfile.flush()
                time.sleep(8)
                return True
            return False

        hub.fault = fault
        self.run_download(hub, "--timeout", "1")
        self.assert_whole()

    def test_a_full_disk(self) -> None:
        disk = f"{self.folder}/disk"
        os.mkdir(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", disk], capture_output=True).returncode:
            self.skipTest("a small tmpfs needs root")
        self.addCleanup(subprocess.run, ["umount", disk])
        to, filler = f"{disk}/model", f"{disk}/filler"
        hub = self.hub()
        done = self.run_download(hub, to=to, expect=1)
        self.assertRegex(done.stderr, r"disk/model: 1.3 MB are missing, and the disk has 1.\d MB free")
        subprocess.run(["mount", "-o", "remount,size=1600k", disk], check=True)

        def fault(handler, path, start):
            if path == BIG and not os.path.exists(filler):
                with open(filler, "wb") as file:  # somebody else takes what was free
                    file.write(b"f" * 700_000)
            return False

        hub.fault = fault
        done = self.run_download(hub, to=to, expect=1)
        self.assertRegex(done.stderr, r"safetensors\.\w+\.part: No space left on device")
        self.assertFalse(os.path.exists(f"{to}/{BIG}"))
        hub.sent = 0
        os.truncate(filler, 0)
        self.run_download(hub, to=to)
        self.assertEqual(self.found(to), self.files)
        self.assertLess(hub.sent, 1_300_000)  # it went on with what was there

    def test_killed(self) -> None:
        hub = self.hub()
        slow = [True]

        def fault(handler, path, start):
            if not slow[0]:
                return False
            data = self.files[path]
            handler.send_response(206 if start else 200)
            handler.send_header("Content-Length", str(len(data) - start))
            if start:
                handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            handler.end_headers()
            for at in range(start, len(data), 20_000):
                handler.wfile.write(data[at : at + 20_000])
                hub.sent += len(data[at : at + 20_000])
                time.sleep(0.02)
            return True

        hub.fault = fault
        for round in range(5):
            process = subprocess.Popen(
                self.command("-q"), env=self.environment(hub), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if round == 0:  # meanwhile another one may not write the same files
                for _ in range(200):
                    if hub.files_asked_for():
                        break
                    time.sleep(0.02)
                self.assertIn("another download to this folder runs", self.run_download(hub, expect=1).stderr)
            time.sleep(RANDOM.uniform(0.05, 0.3))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            self.assertEqual(process.returncode, -signal.SIGKILL)
            self.assert_nothing_wrong()
            self.assertFalse(os.path.exists(f"{self.folder}/model/.download.json"))
        slow[0] = False
        hub.requests.clear()
        self.run_download(hub)
        self.assert_whole()
        self.assertTrue(any("Range" in headers for _, headers in hub.requests))

    def nano(self) -> Hub:
        self.files = {}
        for name in os.listdir(NANO):
            with open(f"{NANO}/{name}", "rb") as file:
                self.files[name] = file.read()
        return self.hub()

    def test_the_chat_downloads_when_told_to(self) -> None:
        hub = self.nano()
        chat = [f"{BUILD}/examples/chat", "hf:me/nano", "--reasoning", "high", "--prompt", "What is 15 × 23?"]
        env = self.environment(hub)
        done = subprocess.run(chat, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout, hub.requests), (1, "", []))
        self.assertIn("hf:me/nano is not here yet: run `gptoss-download me/nano` first, or give --yes", done.stderr)
        done = subprocess.run([*chat, "--yes"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, "15 × 23 = 345.\n"), done.stderr)
        self.assertEqual(self.found(f"{self.folder}/models/me/nano"), self.files)
        hub.close()  # from now on no network is needed
        done = subprocess.run(chat, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, "15 × 23 = 345.\n"), done.stderr)
        server = f"{BUILD}/examples/gptoss-server"
        if os.path.exists(server):
            process = subprocess.Popen([server, "hf:me/nano", "--port", "0"], env=env, stdout=subprocess.PIPE, text=True)
            self.assertIn("nano, contexts of", process.stdout.readline())
            process.terminate()
            process.communicate()
            done = subprocess.run([server, "hf:me/none"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn("run `gptoss-download me/none` first", done.stderr)
        # one that was cut off by somebody else is not taken for whole
        os.truncate(f"{self.folder}/models/me/nano/model.safetensors", 1000)
        done = subprocess.run(chat, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertIn("is not here yet", done.stderr)

    def on_terminal(self, arguments: list, env: dict, answer: str) -> str:
        child, terminal = pty.fork()
        if child == 0:
            os.execve(arguments[0], arguments, env)
        shown, asked, end = "", False, time.monotonic() + 60
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(terminal, 4096).decode("utf-8", "replace")
            except OSError:
                break
            if not asked and "[y/N]" in shown:
                asked = True
                os.write(terminal, answer.encode())
        os.close(terminal)
        os.waitpid(child, 0)
        return shown

    def test_it_asks_on_a_terminal(self) -> None:
        hub = self.nano()
        env = self.environment(hub)
        chat = [f"{BUILD}/examples/chat", "hf:me/nano", "--reasoning", "high", "--prompt", "What is 15 × 23?"]
        shown = self.on_terminal(chat, env, "n\n")
        self.assertRegex(shown, r"hf:?me/nano is not here|me/nano is not here yet. Download 2.2 MB to /.*/models/me/nano\?")
        self.assertIn("`gptoss-download me/nano` downloads it", shown)
        self.assertEqual(hub.files_asked_for(), [])
        self.assertIn("15 × 23 = 345.", self.on_terminal(chat, env, "y\n"))

    def test_the_bar(self) -> None:
        self.files[BIG] = RANDOM.randbytes(12_000_000)
        hub = self.hub()
        hub.fault = lambda *_: time.sleep(0.6)
        shown = self.on_terminal(self.command(), self.environment(hub), "")
        self.assertRegex(shown, r"\r\x1b\[K  0% \.{40} 0 bytes of 12.3 MB")
        self.assertRegex(shown, r"100% #{40} 12.3 MB of 12.3 MB, 0:0\d")
        self.assert_whole()


signal.alarm(300)  # nothing here takes as long: whatever hangs is a failure

if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed")
    sys.exit(failed > 0)
