"""A proxy before an S3 server that does to requests what networks and AWS do to them."""

from __future__ import annotations

import http.client
import json
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def key(self) -> str:
        """The object's key, or nothing where the request is about the bucket."""
        return unquote(self.path.lstrip("/").partition("/")[2])


#: What becomes of a request: nothing (it is passed on), or one of "throttle", "deny", "reset", "stall".
Fault = Callable[[Request], str]


class Proxy:
    """An address whose requests all go to another one, except for `fault`.

    Parameters
    ----------
    target
        ``http://host:port``.
    """

    def __init__(self, target: str) -> None:
        self.seen: list[Request] = []
        #: What /credentials answers, as the address does that AWS gives to containers.
        self.credentials = ("", "")
        self.fault: Fault = lambda _request: ""
        #: Set when a request was stalled; set `go_on` to let it end.
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self, "target": urlsplit(target).netloc})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()


def some(share: float, fault: str, seed: int = 0) -> Fault:
    """Return what happens to a share of all requests."""
    chance, lock = random.Random(seed), threading.Lock()

    def act(_request: Request) -> str:
        with lock:
            return fault if chance.random() < share else ""

    return act


def first(count: int, fault: str, method: str, of: str = "") -> Fault:
    """Return what happens to the first requests for objects (whose key holds `of`) of a method."""
    left, lock = [count], threading.Lock()

    def act(request: Request) -> str:
        with lock:
            if request.method != method or not request.key or of not in request.key or left[0] == 0:
                return ""
            left[0] -= 1
            return fault

    return act


_ERRORS = {
    "throttle": (503, "SlowDown", "Please reduce your request rate."),
    "deny": (403, "AccessDenied", "Access Denied"),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]
    target: ClassVar[str]

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        request = Request(self.command, parts.path, parts.query, dict(self.headers.items()))
        if parts.path == "/credentials":
            key, secret = self.proxy.credentials
            names = {"AccessKeyId": key, "SecretAccessKey": secret, "Token": "token"}
            body = json.dumps({**names, "Expiration": "2099-01-01T00:00:00Z"}).encode()
            self._answer(200, {"Content-Type": "application/json"}, body)
            return
        self.proxy.seen.append(request)
        fault = self.proxy.fault(request)
        if fault == "stall":
            self.proxy.stalled.set()
            self.proxy.go_on.wait(60)
        if fault == "reset" and self.command == "PUT":
            self.rfile.read(1)
            self._reset()
            return
        body = b"".join(self._body())
        if fault in _ERRORS:
            status, code, message = _ERRORS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self._answer(status, {"Content-Type": "application/xml"}, text)
            return
        server = http.client.HTTPConnection(self.target, timeout=60)
        try:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection", "transfer-encoding", "content-length"}:
                    server.putheader(name, value)
            server.putheader("Content-Length", str(len(body)))
            server.endheaders(body)
            answer = server.getresponse()
            content = answer.read()
        finally:
            server.close()
        if fault == "reset":
            # Half of it, and the connection is gone.
            self._head(answer.status, dict(answer.getheaders()), len(content))
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._reset()
            return
        self._answer(answer.status, dict(answer.getheaders()), content)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        declared = next((value for name, value in headers.items() if name.lower() == "content-length"), str(length))
        self.send_header("Content-Length", declared if self.command == "HEAD" else str(length))
        self.end_headers()

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        with suppress(OSError):  # a client that was killed reads no answer
            self._head(status, headers, len(content))
            if self.command != "HEAD":
                self.wfile.write(content)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def handle_one_request(self) -> None:
        with suppress(ConnectionError, ValueError):
            super().handle_one_request()
            return
        self.close_connection = True

    def log_message(self, *_args: object) -> None:
        pass
