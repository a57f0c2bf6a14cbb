"""Servers on the loopback: a real one with the tiny model, and one that fails on request."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

STARTUP_S = 60


@dataclass
class Served:
    """A server that can be asked."""

    base_url: str
    model: str


@contextmanager
def serve_tiny(folder: Path) -> Iterator[Served]:
    """`transformers serve` with the tiny model, whose copy in `folder` is set to sample: its own
    generation config is greedy, and this server takes that from there alone.
    """
    from open_rs.models import model_path

    model = folder / "tiny"
    shutil.copytree(model_path("tiny"), model)
    config = model / "generation_config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) | {"do_sample": True}
    config.write_text(json.dumps(settings), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = Path(sys.executable).with_name("transformers")
    words = [serve, "serve", model, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield Served(f"http://127.0.0.1:{port}/v1", str(model))
        finally:
            process.terminate()
            process.wait()


def wait_until_healthy(
    url: str, process: "subprocess.Popen[bytes]", log: Path, startup_s: float = STARTUP_S
) -> None:
    limit = time.monotonic() + startup_s
    while time.monotonic() < limit and process.poll() is None:
        try:
            with urlopen(url):
                return
        except URLError:
            threading.Event().wait(0.05)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")


@dataclass
class Reply:
    """What the scripted server says to one request."""

    body: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    hang: bool = False  # says nothing until the server closes
    cut: bool = False  # promises more bytes than it sends


@dataclass
class Request:
    path: str
    body: dict[str, Any]
    headers: dict[str, str]  # names in lower case
    time: float


@dataclass
class ScriptedServer(Served):
    """Answers by `script`, and keeps every request in the order of arrival."""

    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0


Script = Callable[[Request, int], Reply]  # the request, and how many came before it


@contextmanager
def scripted_server(script: Script, model: str = "some/model") -> Iterator[ScriptedServer]:
    closing, lock = threading.Event(), threading.Lock()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: no wait for an acknowledgement

        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            raw = self.rfile.read(length)
            if len(raw) < length:  # the client was killed while it asked: that is no question
                self.close_connection = True
                return
            self.reply(json.loads(raw or "{}"))

        def reply(self, body: dict[str, Any]) -> None:
            nonlocal under_way
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, body, headers, time.monotonic())
            with lock:
                before = len(server.requests)
                server.requests.append(request)
                under_way += 1
                server.most_at_once = max(server.most_at_once, under_way)
            reply = script(request, before)
            with lock:
                under_way -= 1
            if reply.hang:
                closing.wait()
                self.close_connection = True
                return
            content = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(content) + 100 * reply.cut))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = reply.cut

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener.daemon_threads = True
    server = ScriptedServer(f"http://127.0.0.1:{listener.server_address[1]}/v1", model)
    thread = threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        closing.set()
        listener.shutdown()
        listener.server_close()


def answer(
    text: str, *, model: str = "some/model", chat: bool = True, tokens: int = 3, **changes: Any
) -> Reply:
    """A faithful answer; `changes` go to its choice."""
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **said, **changes}
    usage = {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": 7 + tokens}
    kind = "chat.completion" if chat else "text_completion"
    body = {
        "id": "cmpl-1", "object": kind, "created": 1, "model": model,
        "choices": [choice], "usage": usage,
    }  # fmt: skip
    return Reply(json.dumps(body))
