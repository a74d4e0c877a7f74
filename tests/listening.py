"""A server on this machine for webhooks to be posted to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

SECRET = "T0/B0/s3cr3t"  # the part of the address that nobody may hear of


@dataclass
class Server:
    """A server on this machine that answers as scripted, the last answer for ever, and keeps what it was sent."""

    answers: list[int]
    port: int = 0
    got: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    slow: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{SECRET}"


@contextmanager
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A Server that listens; the environment names no proxy meanwhile."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    kept = Server([200])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.got.append((dict(self.headers), json.loads(body)))
            code = kept.answers.pop(0) if len(kept.answers) > 1 else kept.answers[0]
            if code == 0:
                kept.slow.wait(5)  # longer than anyone waits
            self.send_response(code or 200)
            if 300 <= code < 400:
                self.send_header("Location", f"http://127.0.0.1:{kept.port}/elsewhere")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = listening.server_port
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield kept
    kept.slow.set()
    listening.shutdown()
    listening.server_close()
    thread.join()
