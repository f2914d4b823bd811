"""A server that answers every request alike: for what an AWS account says before anything works."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def answering(status: int, code: str, message: str) -> contextlib.AbstractContextManager[str]:
    """Yield the URL of a server that refuses everything with one error of AWS's."""
    headers = {"x-amzn-ErrorType": code, "Content-Type": "application/json"}
    return serving(status, json.dumps({"message": message}).encode(), headers)


@contextlib.contextmanager
def serving(status: int, body: bytes, headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the URL of a server that has one answer for everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - the server's name for it

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
