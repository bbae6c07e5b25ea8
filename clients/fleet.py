"""The client fleet: puts a load on a server, checks every byte that comes back, and says what it saw.

By hand:

    python -m clients.fleet --target 127.0.0.1:9000 --load '{"connections": 50}' --warmup 1 --seconds 3

As an agent that obeys orders, one JSON object a line, on stdin (verify, load, begin, end, set, stop):

    python -m clients.fleet --orders

Events come as JSON lines on stdout, diagnostics on stderr.
Exits 2 for bad input, 3 when the server cannot be reached or a worker fails.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import queue
import sys
import threading
import time
from typing import Any

from clients.coordinator import Fleet, FleetError, read_lines
from clients.load import PROTOCOLS, Load, LoadError
from clients.pollers import available

IDLE_SECONDS = 1.0  # Windows notices Ctrl-C only between waits


def emit(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def fail(code: int, message: str) -> None:
    print(f"clients.fleet: {message}", file=sys.stderr)
    raise SystemExit(code)


def parse_target(text: str) -> tuple[str, int]:
    """"127.0.0.1:9000" or "[::1]:9000". Raises ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"a target is host:port, for instance 127.0.0.1:9000, not {text!r}")
    return str(ipaddress.ip_address(host.strip("[]"))), int(port)


def ready(fleet: Fleet) -> dict[str, Any]:
    return {"event": "ready", "workers": len(fleet.crew), "poller": fleet.poller, "pid": os.getpid(),
            "descriptors": fleet.limit}


# as an agent


def target_of(order: dict[str, Any]) -> tuple[str, int]:
    match order.get("target"):
        case [str(host), int(port)] if 0 < port < 65536:
            with contextlib.suppress(ValueError):
                return str(ipaddress.ip_address(host)), port
    raise FleetError("bad target", f'"target" must be [numeric address, port], not {order.get("target")!r}')


def obey(fleet: Fleet, line: bytes) -> dict[str, Any]:
    """Obeys one order and returns the event that answers it."""
    try:
        order = json.loads(line)
        name = order["order"]
    except (ValueError, TypeError, KeyError):
        raise FleetError("not an order", f'an order is a JSON object with "order", not {line[:80]!r}') from None
    match name:
        case "verify":
            if order.get("protocol", "tcp") not in PROTOCOLS:
                raise FleetError("cannot verify", f"protocol must be one of {', '.join(PROTOCOLS)}")
            timeout = order.get("timeout", 5.0)
            if not isinstance(timeout, int | float) or not 0 < timeout < 3600:
                raise FleetError("bad timeout", f'"timeout" must be seconds, more than 0, not {timeout!r}')
            from clients.verify import verify
            why = verify(target_of(order), timeout, order.get("protocol", "tcp"))
            return {"event": "verified", "ok": why is None, "why": why or ""}
        case "load":
            return fleet.begin_load(target_of(order), Load.from_dict(order.get("load", {})))
        case "begin":
            return fleet.begin()
        case "end":
            return fleet.end()
        case "set":
            if not isinstance(keys := order.get("load"), dict):
                raise FleetError("cannot set", f'"load" must be an object, not {keys!r}')
            return fleet.change(keys)
        case "stop":
            return fleet.stop()
    raise FleetError(f"unknown order {name!r}", "known are verify, load, begin, end, set, stop")


def serve_orders(fleet: Fleet) -> None:
    threading.Thread(target=read_lines, args=(os.fdopen(os.dup(0), "rb"), None, fleet.events), daemon=True).start()
    emit(ready(fleet))
    import hdrh.histogram  # type: ignore[import-untyped]  # noqa: F401  (now: no result waits for it)
    while True:
        try:
            while fleet.orders:
                line = fleet.orders.pop(0)
                if line is None:
                    return
                if line.strip():
                    emit(obey(fleet, line))
            with contextlib.suppress(queue.Empty):
                fleet.next_event(IDLE_SECONDS)
        except FleetError as error:
            emit({"event": "error", "what": error.what, "why": error.why})
        except LoadError as error:
            emit({"event": "error", "what": "bad load", "why": str(error)})


# by hand


def wait(fleet: Fleet, seconds: float) -> None:
    """Passes progress on for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            fleet.next_event(left)


def run_once(fleet: Fleet, target: tuple[str, int], load: Load, warmup: float, seconds: float) -> None:
    emit(ready(fleet))
    connected = fleet.begin_load(target, load)
    emit(connected)
    if sum(connected["failed"].values()) >= connected["asked"]:
        fail(3, f"no connection to {target[0]} port {target[1]}: {connected['failed'] or 'no answer'}")
    wait(fleet, warmup)
    emit(fleet.begin())
    wait(fleet, seconds)
    emit(fleet.end())
    fleet.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m clients.fleet", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", action="store_true", help="obey orders on stdin until it ends")
    parser.add_argument("--target", help="host:port, a numeric address")
    parser.add_argument("--load", default="{}", help="the load as a JSON object (see clients/load.py for its keys)")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before the window (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the window (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="worker processes (default: what the load needs)")
    pollers = available()
    parser.add_argument("--poller", choices=pollers, default=pollers[0], help="(default: %(default)s)")
    options = parser.parse_args()
    if options.workers is not None and not 1 <= options.workers <= 256:
        fail(2, "--workers must be from 1 to 256")
    if not options.orders and not options.target:
        fail(2, "say where: --target 127.0.0.1:9000, or --orders to be told on stdin")
    try:
        target = parse_target(options.target) if options.target else ("", 0)
        load = Load.from_dict(json.loads(options.load))
    except ValueError as error:  # bad JSON and LoadError are ValueErrors
        fail(2, str(error) if isinstance(error, LoadError) or not isinstance(error, json.JSONDecodeError)
             else f"--load is not JSON: {error}")
    fleet = Fleet(emit, options.poller, options.workers)
    try:
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            if options.orders:
                serve_orders(fleet)
            else:
                run_once(fleet, target, load, options.warmup, options.seconds)
    except FleetError as error:
        fail(3, f"{error.what}: {error.why}")
    finally:
        fleet.close()


if __name__ == "__main__":
    main()
