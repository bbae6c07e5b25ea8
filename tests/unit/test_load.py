"""A load as data: defaults, validation, and the split over workers; and what reports are merged from."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from clients.counters import Window
from clients.http_reader import HttpReader, parse_head
from clients.load import Load, LoadError
from clients.protocols import SMALL, Exchange, Http, Tcp, post
from clients.report import distribution, quantile
from clients.verify import messages, pieces


def test_a_load_survives_json() -> None:
    load = Load(connections=7, active=3, rate=12.5)
    assert Load.from_dict(load.to_dict()) == load
    assert Load.from_dict({}) == Load()


@pytest.mark.parametrize("keys, words", [
    ({"conections": 5}, "did you mean 'connections'"), ({"zzz": 1}, "known are protocol"),
    ({"connections": 0}, "connections must be a whole number from 1"), ({"connections": 2.5}, "connections"),
    ({"connections": True}, "connections"), ({"connections": None}, "connections"), ({"rate": 0}, "rate"),
    ({"rate": float("nan")}, "rate"), ({"message_bytes": 65 * 1024 * 1024}, "message_bytes"),
    ({"protocol": "carrier pigeon"}, "protocol must be one of"), ({"greet": 1}, "greet"),
    ({"connections": 3, "active": 4}, "must not exceed"), ({"requests": 5, "active": 0}, "requests"),
])
def test_a_load_that_cannot_be_meant(keys: dict, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        Load.from_dict(keys)


@pytest.mark.parametrize("seed", range(50))
def test_shares_add_up(seed: int) -> None:
    dice = random.Random(seed)
    connections = dice.randint(1, 500)
    load = Load(connections=connections, active=dice.randint(1, connections), rate=dice.uniform(1, 1e4),
                requests=dice.randint(1, 5000))
    shares = load.split(dice.randint(1, min(8, connections)))
    assert sum(share.connections for share in shares) == load.connections
    assert sum(share.working for share in shares) == load.active
    assert sum(share.requests or 0 for share in shares) == load.requests
    assert sum(share.rate or 0 for share in shares) == pytest.approx(load.rate)
    assert all(share.working <= share.connections for share in shares)
    # dealt in turn: every connection's number of requests differs by one at most
    each = [(share.requests or 0) // share.working + (n < (share.requests or 0) % share.working)
            for share in shares for n in range(share.working)]
    assert max(each) - min(each) <= 1


@pytest.mark.parametrize("size", [1, 64, SMALL, SMALL + 1, 2_000_000])
def test_answers_are_the_requests_in_capitals(size: int) -> None:
    dialogue = Tcp(size, 1)
    first = exchange = dialogue.exchange(3)
    for _ in range(5):
        answer = bytes(exchange.request).upper()
        assert len(answer) == size
        reader = dialogue.reader()
        assert reader.check(exchange, answer + b"more") == (size, True, None)
        if half := size // 2:
            assert reader.check(exchange, answer[:half]) == (half, False, None)
        assert reader.check(exchange, answer[half:]) == (size - half, True, None)
        broken = answer[:-1] + bytes([answer[-1] ^ 0x80])
        assert reader.check(exchange, broken)[2] == (
            f"byte {size - 1}: expected 0x{answer[-1]:02x}, got 0x{broken[-1]:02x}")
        exchange = exchange.next
    assert exchange is not first


def test_requests_try_what_could_go_wrong() -> None:
    exchange = Tcp(SMALL, 1).exchange(0)
    values = Counter(bytes(exchange.request))
    lower = sum(values[byte] for byte in range(ord("a"), ord("z") + 1))
    assert 0.6 * SMALL < lower < 0.9 * SMALL
    assert {0, 0xFF, ord("A"), ord("`"), ord("{"), 0xE4} <= set(values)


def test_neighbours_ask_different_things() -> None:
    dialogue = Tcp(64, 1)
    exchanges = [dialogue.exchange(number) for number in range(200)]
    assert len({bytes(exchange.request) for exchange in exchanges}) == 200


def test_pieces_put_together_are_the_message() -> None:
    sizes = []
    for message in messages():
        parts = list(pieces(message))
        assert b"".join(parts) == message and len(parts[0]) == 1
        sizes.append(len(message))
    assert max(sizes) == 40_000


def test_scattered_latencies_are_bounded_without_loss_for_the_histogram() -> None:
    window, dice = Window(), random.Random(1)
    for _ in range(60_000):
        window.latency[dice.randrange(10_000_000)] += 1
    exact = distribution(Counter(window.latency))
    window.compact()
    assert len(window.latency) < 20_000 and window.requests == 60_000
    rough = distribution(Counter(window.latency))
    for name in ("count", "p50_us", "p90_us", "p99_us", "p999_us", "hdr"):
        assert rough[name] == exact[name]
    assert rough["mean_us"] == pytest.approx(exact["mean_us"], rel=0.001)


def test_quantiles() -> None:
    counts = Counter({10: 50, 20: 49, 30: 1})
    assert [quantile(counts, share) for share in (0.5, 0.51, 0.99, 1)] == [10, 20, 20, 30]


@pytest.mark.parametrize("size", [1, SMALL, SMALL + 1, 100_000])
def test_http_requests_are_a_head_and_a_body(size: int) -> None:
    exchange = Http(size, 1).exchange(5)
    for _ in range(3):
        head, body = post(size), bytes(exchange.request)[len(post(size)):]
        assert bytes(exchange.request).startswith(head) and len(body) == size
        assert exchange.answer[exchange.offset:exchange.offset + size] == body.upper()
        exchange = exchange.next


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nAB\r\n1\r\nC\r\n0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\ncontent-LENGTH:3\r\n\r\nABC", CHUNKS,
                                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 3\r\n\r\nABC"])
def test_http_answers_cut_at_every_two_places(answer: bytes) -> None:
    for first in range(len(answer)):
        for second in range(first, len(answer)):
            reader, exchange = HttpReader(), Exchange(b"", b"ABC", 0, 3)
            parts = [part for part in (answer[:first], answer[first:second], answer[second:] + b"HTTP") if part]
            told = [reader.check(exchange, part) for part in parts]
            assert told[:-1] == [(len(part), False, None) for part in parts[:-1]]
            assert told[-1] == (len(parts[-1]) - 4, True, None)


@pytest.mark.parametrize("head", [
    b"HTTP/2 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nContent-Length: x",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2", b"HTTP/1.1 200 OK\r\nno colon",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip"])
def test_heads_that_tell_no_end_are_refused(head: bytes) -> None:
    with pytest.raises(ValueError):
        parse_head(head)
