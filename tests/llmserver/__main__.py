"""The server by hand and for benches: `python -m llmserver --port 8099 --latency 0.2`."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from dataclasses import asdict
from typing import Any

from .server import LLMServer
from .settings import Settings


def main() -> None:
    """Serve until interrupted, then print the bill as one line of JSON."""
    options = parse()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with LLMServer(**options) as server:
        print(server.base_url, flush=True)
        stopping.wait()
        print(json.dumps(summary(server)), flush=True)


def parse() -> dict[str, Any]:
    """The settings given on the command line."""
    default = Settings()
    parser = argparse.ArgumentParser(prog="llmserver", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, default=8099, help="port on 127.0.0.1; 0 takes a free one")
    add("--latency", type=float, default=0.0, help="seconds that a live call takes")
    add("--keys", nargs="+", default=default.keys, help="keys that are accepted")
    add("--models", nargs="+", default=None, help="models that exist; all if none is named")
    add("--looks", type=int, default=default.looks, help="looks a batch stays in each status")
    add("--page-cap", type=int, default=None, help="the most items on a list's page")
    add("--list-order", choices=("newest", "oldest", "shuffled"), default="newest")
    add("--max-requests", type=int, default=default.max_requests, help="requests in a batch")
    add("--max-bytes", type=int, default=default.max_bytes, help="bytes in a batch's file")
    add("--enqueued-limit", type=int, default=None, help="enqueued prompt tokens per model")
    add("--token-factor", type=float, default=1.0, help="multiplies the enqueued tokens")
    add("--strict-max-tokens", action="store_true", help="refuse max_tokens")
    add(
        "--any-parameters",
        dest="parameters",
        action="store_const",
        const=None,
        default=default.parameters,
        help="accept body parameters that OpenAI does not have",
    )
    add("--bill-digests", action="store_true", help="bill by digest, to save memory")
    return vars(parser.parse_args())


def summary(server: LLMServer) -> dict[str, object]:
    """What a bench wants to know of the run."""
    return {
        "executions": server.bill.total,
        "batch": server.bill.batch,
        "live": server.bill.live,
        "bodies": len(server.bill.executions),
        "twice": len(server.bill.twice()),
        "tokens": asdict(server.bill.tokens),
        "max_concurrency": server.max_concurrency,
        "calls": len(server.requests_log),
    }


if __name__ == "__main__":
    main()
