"""A Hugging Face hub on loopback, which fails as it is told to."""

import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def entry(path: str, data: bytes) -> dict:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    found = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if len(data) > 10_000 or path.endswith((".safetensors", ".gguf")):
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return found


class Hub:
    """files: what the repository has, by path. listing: what is said of them, changed by tests that want it wrong.
    fault(handler, path, start): called before a file's bytes are sent; it returns true where it has answered."""

    def __init__(self, files: dict) -> None:
        self.files = files
        self.listing = [entry(path, data) for path, data in files.items()]
        self.requests: list = []  # (path, headers), of all
        self.fault = lambda handler, path, start: False
        self.api_fault = lambda handler: False
        self.page = 1000
        self.ranges = True  # it resumes
        self.sent = 0  # bytes of files
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # clients that were killed
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files_asked_for(self) -> list:
        found = (re.search("/resolve/[^/]*/(.*)", path) for path, _ in self.requests)
        return [urllib.parse.unquote(match.group(1)) for match in found if match]

    def reply(self, handler, status: int, body: bytes = b"", **headers: str) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def answer(self, handler) -> None:
        url = urllib.parse.urlsplit(handler.path)  # a proxy is asked for a whole address
        self.requests.append((url.path, dict(handler.headers)))
        if url.path.startswith("/api/"):
            if self.api_fault(handler):
                return
            if "/revision/" in url.path:
                return self.reply(handler, 200, json.dumps({"sha": COMMIT}).encode())
            query = dict(urllib.parse.parse_qsl(url.query))
            begin = int(query.get("cursor", 0))
            end = begin + self.page
            more = {}
            if end < len(self.listing):
                more = {"Link": f'<{self.url}{url.path}?recursive=true&cursor={end}>; rel="next"'}
            return self.reply(handler, 200, json.dumps(self.listing[begin:end]).encode(), **more)
        path = urllib.parse.unquote(url.path.split("/resolve/", 1)[1].split("/", 1)[1])
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(match.group(1)) if match and self.ranges else 0
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if not self.fault(handler, path, start):
                self.send(handler, self.files[path], start)
        finally:
            with self.lock:
                self.at_once -= 1

    def send(self, handler, data: bytes, start: int = 0, end=None) -> None:
        """end: where the connection is cut."""
        size, part = len(data), data[start:end]
        ranged = {"Content_Range": f"bytes {start}-{size - 1}/{size}"} if start else {}
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(size - start))
        if ranged:
            handler.send_header("Content-Range", ranged["Content_Range"])
        handler.end_headers()
        for at in range(0, len(part), 1 << 16):
            handler.wfile.write(part[at : at + (1 << 16)])
            self.sent += len(part[at : at + (1 << 16)])
        if end is not None:
            handler.wfile.flush()
            handler.close_connection = True
