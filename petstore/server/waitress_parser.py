"""Strict parsing of requests in waitress: where a request ends, and which ones are refused before their body is read.

A request is ambiguous if two readers could see its end at two places (request smuggling: RFC 9112, 6.3, 7.1 and 11.2).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.rfc7230 import CHUNK_EXT, HEADER_FIELD_RE
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

from petstore.server.limits import MAX_HEADERS
from petstore.web.middleware import HOST
from petstore.web.validation import MAX_BODY

MAX_CHUNK_LINE, MAX_TRAILER = 1024, 8192  # bytes
MAX_FRAMING = 8192  # bytes of sizes and line ends of chunks; of a large body, another quarter of it: each chunk costs time
RefusesHead = Callable[[dict[str, Any]], bool]  # a WSGI environ without its body: see RequestMiddleware.refuses_head
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})" + CHUNK_EXT.encode("latin-1") + rb"\r\n")
_UNFINISHED_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{0,16}\Z|[0-9A-Fa-f]{1,16}(?:;|\r\Z)")
_BEGINNING = re.compile(rb"(?:\r\n)*(?:\r?\Z|\S)")  # of a request: blank lines may come before it, and nothing else
_CGI_NAMES = {"CONTENT_TYPE", "CONTENT_LENGTH"}  # the headers whose name in the environ has no HTTP_ (RFC 3875, 4.1)


class Busy(Error):  # type: ignore[misc]
    """The server has no room for the body of a request."""

    code, reason = 503, "Service Unavailable"


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Reads one request.

    refuses_head: whether the application refuses a request whatever its body is; then the body is not read.
    """

    body_rcv: Any
    completed: bool
    error: Any
    header_plus: bytes  # what has arrived of an unfinished head
    command = path = "-"  # of a request that cannot be parsed, for the log
    received_at = 0.0  # time.monotonic() when its last byte arrived
    refused_at_head = False  # it is answered without its body
    task: Any = None
    _head_checked = False

    def __init__(self, adj: Any, refuses_head: RefusesHead = lambda environ: False) -> None:
        super().__init__(adj)
        self._refuses_head = refuses_head

    @property
    def body_size(self) -> int:
        """Bytes of its body that have arrived."""
        return len(self.body_rcv) if self.body_rcv is not None else 0

    def received(self, data: bytes) -> int:
        if self.body_rcv is None and (self.header_plus or data)[:1].isspace() and not _BEGINNING.match(self.header_plus + data):
            self.refuse(BadRequest("A request must begin with its method"))
            return len(data)
        taken = int(super().received(data))
        if self.header_bytes_received >= MAX_HEADERS and self.headers_finished and self.error is None:
            self.refuse(RequestHeaderFieldsTooLarge(f"exceeds {MAX_HEADERS} bytes"))
        if self.body_rcv is not None and not self._head_checked and self.headers_finished:
            self._head_checked = True
            body = data[taken:]
            if not (body.endswith(b"0\r\n\r\n") if self.chunked else len(body) >= self.content_length):
                self._check_head()
        if self.completed and not self.received_at:
            self.received_at = time.monotonic()
        return taken

    def _check_head(self) -> None:
        """End the request here if it is refused whatever its body is, which has not arrived yet."""
        too_large = isinstance(self.error, RequestEntityTooLarge)
        if (self.error is None or too_large) and self._refuses_head(self._head()):
            self.error, self.completed, self.refused_at_head = None, True, True

    def _head(self) -> dict[str, Any]:
        environ = {name if name in _CGI_NAMES else f"HTTP_{name}": value for name, value in self.headers.items()}
        protocol = {"SERVER_PROTOCOL": f"HTTP/{self.version}"}
        return {**environ, **protocol, "REQUEST_METHOD": self.command, "PATH_INFO": self.path, "QUERY_STRING": self.query}

    def refuse(self, error: Error) -> None:
        """End an unfinished request, and free what has arrived of its body."""
        self.error, self.completed = error, True
        self.close()
        self.body_rcv = None

    def parse_header(self, head: bytes) -> None:
        ends = head.count(b"\r\n")  # counting is much faster than a regular expression
        if not ends == head.count(b"\r") == head.count(b"\n") or b"\r\n " in head or b"\r\n\t" in head:
            raise ParsingError("There is a bare CR or LF, or a folded header line")
        try:
            super().parse_header(head)
        except ValueError as error:  # from urlsplit, or from int for thousands of digits
            raise ParsingError("The request target or Content-Length is invalid") from error
        if self.version not in ("1.0", "1.1"):
            raise ParsingError("This server speaks HTTP/1.0 and HTTP/1.1")
        if re.search(rb"[^ -~]", self.first_line):
            raise ParsingError("The request line must be printable ASCII; percent-encode the rest")
        if not head.startswith(self.first_line + b"\r\n"):  # waitress has stripped it
            raise ParsingError("The request line must end with the version")
        self._check_target()
        codings = [value.strip(b" \t").lower() for value in _TRANSFER_ENCODING.findall(head)]
        if codings and (codings != [b"chunked"] or self.version == "1.0" or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding must be chunked, once, in HTTP/1.1, and without Content-Length")
        if self.chunked:
            self.body_rcv = ChunkedBody(self.body_rcv.getbuf())

    def _check_target(self) -> None:
        if b"#" in self.first_line:
            raise ParsingError("A request target has no fragment (RFC 9112, 3.2); percent-encode # as %23")
        if not self.proxy_scheme or self.command == "CONNECT":  # which has a host and a port
            return
        if self.proxy_scheme not in ("http", "https") or not HOST.fullmatch(self.proxy_netloc):  # RFC 9110, 4.2
            raise ParsingError("A request target must be a path, or http:// or https:// with a host and a path")


class ChunkedBody:
    """Reads a chunked body (RFC 9112, 7.1). It takes the place of waitress's ChunkedReceiver, which lets too much by."""

    completed = False
    error: Error | None = None

    def __init__(self, buf: Any) -> None:
        self._buf = buf
        self._rest = b""  # of a line or trailer section that has not arrived whole
        self._read: Callable[[ChunkedBody, bytes, int], int] = ChunkedBody._read_size
        self._left = 0  # bytes of the present chunk that have not arrived
        self._framing = 0  # bytes of sizes and line ends

    def __len__(self) -> int:
        return int(self._buf.__len__())

    def getfile(self) -> Any:
        return self._buf.getfile()

    def getbuf(self) -> Any:
        return self._buf

    def received(self, data: bytes) -> int:
        """Read what belongs to the body; how many bytes of `data` that is."""
        text, before = self._rest + data, len(self._rest)
        at, self._rest = 0, b""
        while at < len(text) and not self.completed and self.error is None:
            end = self._read(self, text, at)
            if end == at:  # the rest of the line has yet to come
                self._rest, at = text[at:], len(text)
            else:
                at = end
        return len(data) if self.error else at - before

    # Each reads the part that begins at `at`, and returns where the next one begins: at `at` if this one has not arrived whole.

    def _read_size(self, text: bytes, at: int) -> int:
        match = _CHUNK_LINE.match(text, at)
        if match is None:
            return self._refuse_line(text, at)
        size = int(match[1], 16)
        if len(self) + size > MAX_BODY:  # known before the chunk has arrived
            self.error = RequestEntityTooLarge(f"exceeds {MAX_BODY} bytes")
        self._framing += match.end() - at + 2
        if self._framing > len(self) // 4 + MAX_FRAMING:
            self.error = BadRequest("The chunks are too small")
        self._left, self._read = size, ChunkedBody._read_data if size else ChunkedBody._read_trailer
        return match.end()

    def _refuse_line(self, text: bytes, at: int) -> int:
        if not _UNFINISHED_CHUNK_LINE.match(text, at):
            self.error = BadRequest("A chunk must begin with its size in at most 16 hexadecimal digits")
        elif text.find(b"\n", at) >= 0 or len(text) - at > MAX_CHUNK_LINE:
            self.error = BadRequest("Invalid chunk extension")
        return at

    def _read_data(self, text: bytes, at: int) -> int:
        end = min(at + self._left, len(text))
        self._buf.append(text[at:end])
        self._left -= end - at
        if not self._left:
            self._read = ChunkedBody._read_data_end
        return end

    def _read_data_end(self, text: bytes, at: int) -> int:
        end = text[at : at + 2]
        if end not in (b"\r", b"\r\n"):
            self.error = BadRequest("Chunk not properly terminated")
        elif end == b"\r\n":
            self._read = ChunkedBody._read_size
            return at + 2
        return at

    def _read_trailer(self, text: bytes, at: int) -> int:
        if text.startswith(b"\r\n", at):
            self.completed = True
            return at + 2
        end = text.find(b"\r\n\r\n", at)
        trailer = text[at:] if end < 0 else text[at:end]
        if len(trailer) > MAX_TRAILER or re.search(rb"\r[^\n]|(?<!\r)\n", trailer):
            self.error = BadRequest("The trailer section is too long, or has a bare CR or LF")
        elif end >= 0 and not all(map(HEADER_FIELD_RE.match, trailer.split(b"\r\n"))):
            self.error = BadRequest("A line of the trailer section is no header")
        elif end >= 0:
            self.completed = True
            return end + 4
        return at
