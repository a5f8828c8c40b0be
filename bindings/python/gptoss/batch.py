"""A file of requests in OpenAI's batch format, answered by a model on this machine or on a Dask cluster:

    python -m gptoss.batch IN.jsonl OUT.jsonl --model gpt-oss-20b

A line of IN is {"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}; or /v1/completions.
For each, OUT gets a line {"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}, in any order.
A line that is no request gets an error, and one whose body is at fault a response of status 400. A run that was
interrupted goes on when it is started again with the same files.
"""

from __future__ import annotations

import argparse
import datetime
import fcntl
import hashlib
import importlib
import json
import os
import sys
from contextlib import ExitStack
from typing import Any, Callable, Iterator, Optional

from ._requests import URLS, Line, Settings, answer_lines
from .errors import GptossError

MAX_LINE = 16_000_000  # bytes


class BatchError(Exception):
    """What ends a run, as the user is told it."""


def line_error(text: bytes, seen: set[str]) -> tuple[Optional[str], Optional[str], str]:
    """What is wrong with a line before its body is looked at: its custom_id if it has one, a code or None, a message."""
    if len(text) > MAX_LINE:
        return None, "invalid_json_line", f"the line is longer than {MAX_LINE} bytes"
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        return None, "invalid_json_line", f"the line is not JSON: {error}"
    if not isinstance(line, dict):
        return None, "invalid_json_line", "the line is not an object"
    custom_id = line.get("custom_id")
    if not isinstance(custom_id, str):
        return None, "missing_required_parameter", "custom_id: expected a string"
    if custom_id in seen:
        return custom_id, "duplicate_custom_id", "custom_id: an earlier line has the same"
    seen.add(custom_id)
    if line.get("method") != "POST":
        return custom_id, "invalid_method", 'method: expected "POST"'
    if line.get("url") not in URLS:
        return custom_id, "invalid_url", f"url: expected {' or '.join(URLS)}"
    if not isinstance(line.get("body"), dict):
        return custom_id, "invalid_request", "body: expected an object"
    return custom_id, None, ""


class Batch:
    """The lines of a file, and of those that are answered the file that holds the answers. One process at a time."""

    def __init__(self, source: str, target: str) -> None:
        if os.path.exists(target) and os.path.samefile(source, target):
            raise BatchError(f"{target}: is the file of the requests itself")
        self.source, self.name = open(source, "rb"), target
        self.places: dict[str, tuple[int, int]] = {}  # where each line is: offset and size
        self.bad: dict[str, bytes] = {}  # answers of lines that are no request
        seen: set[str] = set()
        offset = 0
        for number, raw in enumerate(self.source, 1):
            text = raw.strip()
            if text:
                identity = hashlib.sha256(b"%d:%s" % (number, text)).hexdigest()[:24]
                self.places[identity] = (offset, len(raw))
                custom_id, code, message = line_error(text, seen)
                if code is not None:
                    error = {"code": code, "message": f"line {number}: {message}"}
                    record = {"id": f"batch_req_{identity}", "custom_id": custom_id, "response": None, "error": error}
                    self.bad[identity] = json.dumps(record, ensure_ascii=True).encode()
            offset += len(raw)
        self.target = open(target, "a+b")
        try:
            fcntl.flock(self.target, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BatchError(f"{target}: another run writes to it") from None
        self.done = self._read_done()
        new = [record for identity, record in self.bad.items() if identity not in self.done]
        self._append(new)
        self.done |= self.bad.keys()

    def _read_done(self) -> set[str]:
        """The lines that earlier runs have answered. The beginning of a line, where a run was killed, is cut off."""
        done: set[str] = set()
        self.target.seek(0)
        whole = 0
        for number, raw in enumerate(self.target, 1):
            if not raw.endswith(b"\n"):
                break
            try:
                identity = json.loads(raw)["id"].removeprefix("batch_req_")
            except (ValueError, KeyError, TypeError, AttributeError):
                identity = ""
            if identity not in self.places or identity in done:
                raise BatchError(f"{self.name}: line {number} is no answer to a line of {self.source.name}: give another file")
            done.add(identity)
            whole += len(raw)
        if self.target.seek(0, os.SEEK_END) > whole:
            self.target.truncate(whole)
        return done

    def _append(self, records: list[bytes]) -> None:
        if not records:
            return
        self.target.write(b"".join(record + b"\n" for record in records))
        self.target.flush()
        os.fsync(self.target.fileno())

    def add(self, chunk: list[Line], answers: list[str]) -> None:
        new = [(line.id, answer) for line, answer in zip(chunk, answers) if line.id not in self.done]
        self._append([answer.encode("utf-8", "backslashreplace") for _, answer in new])
        self.done.update(identity for identity, _ in new)

    def chunks(self, size: int) -> Iterator[list[Line]]:
        """Those that are not answered, read when they are needed."""
        chunk: list[Line] = []
        for identity, (offset, length) in self.places.items():
            if identity in self.done:
                continue
            self.source.seek(offset)
            chunk.append(Line(identity, self.source.read(length).strip().decode("utf-8", "replace")))
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


class Bar:
    """tqdm's where it is installed; else nothing."""

    def __init__(self, total: int, done: int, quiet: bool) -> None:
        self.bar: Any = None
        if not quiet:
            try:
                tqdm = importlib.import_module("tqdm").tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, initial=done, unit=" lines", smoothing=0.1)

    def add(self, lines: int) -> None:
        if self.bar is not None:
            self.bar.update(lines)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


Failures = list[str]
OnAnswers = Callable[[list[Line], list[str]], None]


def run_here(settings: Settings, batch: Batch, on_answers: OnAnswers) -> Failures:
    for chunk in batch.chunks(settings.together):
        on_answers(chunk, answer_lines(settings, chunk))
    return []


def run_on_dask(client: Any, settings: Settings, batch: Batch, on_answers: OnAnswers) -> Failures:
    """Two chunks a worker at a time, so that none waits for its next one. Dask runs a chunk again elsewhere when its
    worker is lost; one that fails all the same stays unanswered."""
    distributed = importlib.import_module("distributed")
    client.wait_for_workers(1)
    chunks = batch.chunks(settings.together)
    running: dict[str, list[Line]] = {}
    failures: Failures = []
    completed = distributed.as_completed()

    def submit() -> None:
        while len(running) < 2 * max(1, len(client.ncores())):
            chunk = next(chunks, None)
            if chunk is None:
                return
            future = client.submit(answer_lines, settings, chunk, pure=False, retries=2)
            running[future.key] = chunk
            completed.add(future)

    submit()
    for future in completed:
        chunk = running.pop(future.key)
        error = future.exception()
        if error is None:
            on_answers(chunk, future.result())
        else:
            failures.append(f"{type(error).__name__}: {error}")
        future.release()
        submit()
    return failures


def run(arguments: argparse.Namespace) -> int:
    batch = Batch(arguments.IN, arguments.OUT)
    settings = Settings(
        model=os.path.abspath(arguments.model),
        device=arguments.device,
        weights=arguments.weights,
        memory_budget=int(arguments.memory * 1e9),
        context_length=arguments.context,
        together=arguments.together,
        date=datetime.date.today().isoformat(),
    )
    bar = Bar(len(batch.places), len(batch.done), arguments.quiet)

    def on_answers(chunk: list[Line], answers: list[str]) -> None:
        batch.add(chunk, answers)
        bar.add(len(chunk))

    failures: Failures = []
    try:
        if len(batch.done) == len(batch.places):
            pass
        elif arguments.dask or arguments.workers:
            try:
                distributed = importlib.import_module("distributed")
            except ImportError:
                raise BatchError("Dask's distributed is not installed: Debian has it as python3-distributed") from None
            with ExitStack() as cluster:
                address: Any = arguments.dask
                if not address:
                    options = {"n_workers": arguments.workers, "threads_per_worker": 1, "dashboard_address": None}
                    address = cluster.enter_context(distributed.LocalCluster(processes=True, **options))
                try:
                    client = cluster.enter_context(distributed.Client(address))
                except (OSError, ValueError) as error:
                    raise BatchError(f"{address}: {error}") from None
                failures = run_on_dask(client, settings, batch, on_answers)
        else:
            failures = run_here(settings, batch, on_answers)
    finally:
        bar.close()
    for failure in sorted(set(failures)):
        print(f"gptoss.batch: {failure}", file=sys.stderr)
    left = len(batch.places) - len(batch.done)
    if left:
        print(f"gptoss.batch: {left} lines are not answered: run it again", file=sys.stderr)
    return 1 if left else 0


def main(argv: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gptoss.batch", description=(__doc__ or "").split("\n\n", 1)[0])
    add = parser.add_argument
    add("IN", help="requests in OpenAI's batch format, a line each")
    add("OUT", help="gets the answers, a line each; what is there already is gone on with")
    add("--model", required=True, help="directory of a Hugging Face checkpoint, or a .gguf file")
    add("--together", type=int, default=32, help="lines that are computed at once, on each device (default: 32)")
    add("--dask", metavar="ADDRESS", help="run on this Dask cluster, whose workers have this package and the model")
    add("--workers", type=int, default=0, metavar="N", help="run on N Dask workers of this machine, one a GPU")
    add("--device", help="index or a part of the name of the device (default: the best; of Dask's workers each its own)")
    add("--weights", default="default", choices=("default", "bf16", "q8"), help="dense weights in memory")
    add("--memory", type=float, default=0, metavar="GB", help="device memory to take at most (default: all that is free)")
    add("-c", "--context", type=int, default=0, help="tokens a request and its answer may have (default: the model's)")
    add("-q", "--quiet", action="store_true", help="show no progress")
    arguments = parser.parse_args(argv)
    if arguments.together < 1 or arguments.workers < 0 or (arguments.workers and arguments.dask):
        parser.error("--together is at least 1, and --workers and --dask exclude each other")
    try:
        return run(arguments)
    except (BatchError, GptossError, OSError) as error:
        print(f"gptoss.batch: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
