"""A package index on the loopback: Python's simple API, npm's metadata, and files with ranges.

It can cut responses, and fail.
"""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.define
class Registry:
    """The documents and files by path, and what was requested."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    cuts: list[int] = attrs.field(factory=list)
    """After how many bytes the next responses with a file of 1,000 bytes or more end."""
    status: int = 200
    has_ranges: bool = True
    chunk_size: int | None = None
    """If it is set, files are sent in chunks of so many bytes, without their length."""
    requests: list[tuple[str, str | None]] = attrs.field(factory=list)
    """The path and the range of each request."""
    url: str = ""

    def respond(self, path: str, wanted: str | None) -> tuple[int, Mapping[str, str], bytes, int]:
        """Give the status, headers and body, and how many bytes of the body are sent."""
        self.requests.append((path, wanted))
        content = self.files.get(path)
        if content is None or self.status != 200:
            return (404 if content is None else self.status), {"Content-Length": "0"}, b"", 0
        status, body = 200, content
        headers = {"ETag": '"1"', "Accept-Ranges": "bytes"}
        if self.has_ranges and wanted and (match := re.fullmatch(r"bytes=(\d+)-", wanted)):
            start, last = int(match[1]), len(content) - 1
            status, body = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
        sent = self.cuts.pop(0) if self.cuts and len(content) >= 1000 else len(body)
        if self.chunk_size and len(content) >= 1000:
            return status, {**headers, "Transfer-Encoding": "chunked"}, *self._chunk(body, sent)
        return status, {**headers, "Content-Length": str(len(body))}, body, sent

    def _chunk(self, body: bytes, sent: int) -> tuple[bytes, int]:
        """Give a body in chunks, and how many bytes of them are sent."""
        size = self.chunk_size or 1
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
        if sent < len(body):
            whole = b"".join(chunks[: sent // size])
            part = chunks[sent // size]
            return whole + part, len(whole) + len(part) - 10
        data = b"".join([*chunks, b"0\r\n\r\n"])
        return data, len(data)


@contextmanager
def running() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body, sent = registry.respond(self.path, self.headers["Range"])
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if self.path.startswith("/simple/"):
                self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body[:sent])
            self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        registry.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
