"""Reads HTTP/1.1 answers from a stream that is cut at any place (RFC 9112), and checks their bodies as they come."""

from __future__ import annotations

import functools
from typing import NamedTuple

from clients.exchanges import Exchange

MOST_LINES = 64 * 1024  # bytes of a head, or of a line between chunks; what is longer is neither
BODILESS = (204, 304)
HEAD, BODY, SIZE, CHUNK, CHUNK_END, TRAILER = range(6)  # what comes next


class Head(NamedTuple):
    status: int
    length: int | None
    """Bytes of the body; None: it is chunked."""
    closing: bool
    """The connection ends with this answer."""


@functools.lru_cache(256)
def parse_head(head: bytes) -> Head:
    """A head without its empty line. Raises ValueError for what is no HTTP/1 answer, or one of unknown length."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    code = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(code) < 3 or not code.isdigit() or rest[3:4].strip():
        raise ValueError(f"no status line of HTTP/1: {first[:40]!r}")
    status, codings = int(code), b""
    lengths: set[bytes] = set()
    options: set[bytes] = set()
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise ValueError(f"no header: {line[:40]!r}")
        match name.lower():
            case b"content-length":
                lengths.add(value.strip())
            case b"transfer-encoding":
                codings = value.strip().lower()
            case b"connection":
                options.update(option.strip().lower() for option in value.split(b","))
    closing = b"close" in options or (version == b"HTTP/1.0" and b"keep-alive" not in options)
    if status < 200 or status in BODILESS:
        return Head(status, 0, closing)
    if codings:
        if codings != b"chunked" or lengths:
            raise ValueError(f"Transfer-Encoding {codings[:40]!r} with {len(lengths)} Content-Length")
        return Head(status, None, closing)
    if len(lengths) != 1 or not (length := lengths.pop()).isdigit():
        raise ValueError("neither one Content-Length nor chunks: where does this answer end?")
    return Head(status, int(length), closing)


class HttpReader:
    """The answers of one connection, one after another. See clients.protocols.Reader."""

    __slots__ = ("closing", "gathered", "left", "phase", "position", "refusal", "status")

    def __init__(self) -> None:
        self.refusal: str | None = None
        self.closing = False
        self.renew()

    def renew(self) -> None:
        """Before the first byte of an answer."""
        self.phase, self.status = HEAD, 0
        self.gathered = b""  # lines that have not ended yet
        self.left = self.position = 0  # bytes to come of the body or chunk; bytes of the body that have come

    def check(self, exchange: Exchange, data: bytes) -> tuple[int, bool, str | None]:
        at, size, wrong, complete = 0, len(data), None, False
        fresh = self.phase == HEAD and not self.gathered
        while at < size and not complete:
            if self.phase in (BODY, CHUNK):
                part = data[at:at + self.left]
                if self.status == 200:  # what is too long shows by its length
                    wrong = wrong or exchange.wrong(self.position, part[:max(0, exchange.size - self.position)])
                at += len(part)
                self.position += len(part)
                self.left -= len(part)
                if not self.left:
                    complete, self.phase = self.phase == BODY, CHUNK_END
            else:
                lines, at = self.gather(data, at)
                complete = lines is not None and self.understand(lines)
        if complete:
            self.refusal = None if self.status == 200 else f"HTTP {self.status}"
            if not self.refusal and self.position != exchange.size:
                wrong = wrong or f"a body of {self.position:,} bytes, expected {exchange.size:,}"
            if fresh and at == size and not (wrong or self.refusal or self.closing or exchange.offset):
                exchange.whole = data  # next time the same bytes will be right
            self.renew()
        return at, complete, wrong

    def gather(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        """The lines up to their end, if that has come, and up to where `data` is read."""
        ending = b"\r\n\r\n" if self.phase == HEAD else b"\r\n"
        before = len(self.gathered)
        text = self.gathered + data[at:] if before or at else data
        end = text.find(ending, max(0, before - len(ending) + 1))
        if max(end, len(text) if end < 0 else 0) > MOST_LINES:
            raise ValueError(f"a head or line of more than {MOST_LINES:,} bytes")
        if end < 0:
            self.gathered = text
            return None, len(data)
        self.gathered = b""
        return text[:end], at + end + len(ending) - before

    def understand(self, lines: bytes) -> bool:
        """Takes a head, a chunk's size, the end of a chunk or a line of the trailer. Is the answer complete?"""
        if self.phase == TRAILER:
            return not lines
        if self.phase == HEAD:
            head = parse_head(lines)
            if head.status < 200:  # an interim answer: the real one follows
                return False
            self.status, self.closing = head.status, head.closing
            self.phase, self.left = (SIZE, 0) if head.length is None else (BODY, head.length)
            return head.length == 0
        if self.phase == SIZE:
            digits = lines.partition(b";")[0].strip()
            if not digits or digits.strip(b"0123456789abcdefABCDEF"):
                raise ValueError(f"no chunk size: {lines[:40]!r}")
            self.left = int(digits, 16)
            self.phase = CHUNK if self.left else TRAILER
        elif lines:
            raise ValueError(f"a chunk longer than its size: {lines[:40]!r}")
        else:
            self.phase = SIZE
        return False
