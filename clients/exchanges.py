"""What is asked and which answer is right, whatever the protocol: rings of exchanges, all computed beforehand."""

from __future__ import annotations

import random

RING = 251  # exchanges, a prime: neighbours in step stay apart
STEP = 67  # bytes from one exchange's message to the next one's
PERIOD = 1_048_573  # the pseudo-random stream repeats after so many bytes, a prime
SMALL = 16 * 1024  # up to here each exchange has bytes of its own; longer ones are views of one stream

_OTHERS = b"\x00\xff\n\r\t 0123456789@[`{AMZ~\x7f\x80\x9f\xb5\xdf\xe0\xe4\xe9\xf6\xfc\xfe"
_ALPHABET = bytes(ord("a") + n % 26 if n < 192 else _OTHERS[n % len(_OTHERS)] for n in range(256))


class Exchange:
    """A request of `length` bytes and its answer's text: answer[offset:offset + size]. `next` is the one that follows.

    whole: what a complete right answer looked like on the wire, head and all; None while that is not known.
    """

    __slots__ = ("answer", "length", "next", "offset", "request", "size", "whole")

    def __init__(self, request: bytes | memoryview, answer: bytes, offset: int, size: int) -> None:
        self.request, self.answer, self.offset, self.size = request, answer, offset, size
        self.length, self.next, self.whole = len(request), self, None if offset else answer

    def wrong(self, position: int, part: bytes) -> str | None:
        """What is wrong with `part` as the bytes of the answer's text from `position` on."""
        start = self.offset + position
        return None if self.answer.startswith(part, start) else difference(self.answer, start, part, position)


def ring_of(size: int, head: bytes = b"") -> list[Exchange]:
    """Exchanges with different messages of `size` bytes, each request with `head` before it.

    Long ones are views of one stream, in which they overlap; there the heads lie between, and so within the others.
    """
    ring = []
    if size <= SMALL:
        stream = stream_of(size + RING * STEP)
        for start in range(0, RING * STEP, STEP):
            message = stream[start:start + size]
            ring.append(Exchange(head + message, message.upper(), 0, size))
    else:
        step, room = (SMALL // 4 + 1, len(head)) if head else (STEP, 0)
        mixed = bytearray(stream_of(room + size + RING * step))
        starts = range(room, room + RING * step, step)
        if head:
            for start in starts:
                mixed[start - room:start] = head
        stream = bytes(mixed)
        upper, view = stream.upper(), memoryview(stream)
        ring = [Exchange(view[start - room:start + size], upper, start, size) for start in starts]
    for one, following in zip(ring, ring[1:] + ring[:1], strict=True):
        one.next = following
    return ring


def stream_of(length: int) -> bytes:
    """The same pseudo-random bytes each time: mostly lower case, the rest bytes that must stay as they are."""
    period = random.Random(2024).randbytes(min(length, PERIOD)).translate(_ALPHABET)
    return (period * (length // len(period) + 1))[:length]


def difference(answer: bytes, start: int, part: bytes, position: int) -> str:
    """Where `part` departs from answer[start:], counted in bytes of the message from `position` on."""
    at = next(n for n, byte in enumerate(part) if start + n >= len(answer) or byte != answer[start + n])
    return f"byte {position + at}: expected 0x{answer[start + at]:02x}, got 0x{part[at]:02x}"
