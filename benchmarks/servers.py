"""Completions a second of one policy over one server and over three, and with one that dies.

    python benchmarks/servers.py

The servers answer as vLLM's does, after a latency drawn for each request, and write so many at a
time: on two cores three real ones could not be faster than one. What is measured is therefore what
the client loses: how evenly it shares out, and what a server that dies costs. Peers in the same
run: round robin, which is how a proxy shares out, and one server alone.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, cycle
from pathlib import Path
from typing import Any

import tyro
from taskgym.agents.policy import Request, Sampling
from taskgym.agents.server_client import ServerClient
from taskgym.agents.server_policy import ServerPolicy


@dataclass(frozen=True)
class Settings:
    """How much is asked of what."""

    requests: int = 1600
    """Completions of one measurement."""
    batch: int = 16
    """Completions that a server writes at a time; the others wait in it."""
    seconds: float = 0.4
    """Median latency of a completion."""
    spread: float = 0.5
    """Standard deviation of the latency's logarithm."""
    rounds: int = 3
    """Measurements of each contender, interleaved; the median is printed."""


class SlowServer:
    """vLLM's server as far as a policy sees it, without a model."""

    def __init__(self, settings: Settings, slower: float = 1.0):
        self.answered = 0
        self._settings, self._slower = settings, slower
        self._room = threading.Semaphore(settings.batch)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.dead = False
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._http.shutdown()
        self._http.server_close()

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        """A completion, after its latency: the same for the same seed on whichever server."""
        draw = random.Random(body["seed"])
        latency = (
            self._settings.seconds * self._slower * draw.lognormvariate(0, self._settings.spread)
        )
        with self._room:
            time.sleep(latency)
        self.answered += 1
        choice = {"token_ids": [5, 2], "logprobs": {"token_logprobs": [0.0, 0.0]}}
        return {"model": body["model"], "choices": [{**choice, "finish_reason": "stop"}]}

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply({"data": [{"id": "base", "max_model_len": 64}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._reply(server.write(body))

            def _reply(self, content: Any) -> None:
                if server.dead:
                    self.close_connection = True
                    return
                sent = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


class Letters:
    """A tokenizer, as far as a policy needs one."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        """Text of two tokens."""
        return "ab"


class Outside:
    """Stands for an episode where there is none."""


class RoundRobin(ServerPolicy):
    """Takes the servers in turn, whatever is in flight there, as a proxy does."""

    _turns: Any = None

    def _free(self, request: Request) -> Any:
        self._turns = self._turns or cycle(self._pool.links())
        return next(self._turns)


def measure(
    kind: type[ServerPolicy], servers: Sequence[SlowServer], settings: Settings, dies: bool = False
) -> float:
    """Completions a second; one of the servers dies when a third of them are there."""
    most = 2 * settings.batch  # in flight at each: what it writes, and as many that wait there
    clients = [ServerClient(s.url, connections=most, patience=0.5) for s in servers]
    with tempfile.TemporaryDirectory() as folder:
        policy = kind(clients, "base", Letters(), {2}, folder=Path(folder), max_model_len=64)
        sampling, numbers, done = Sampling(max_tokens=8), count(), []
        began = time.perf_counter()
        for number in range(settings.requests):
            episode: Any = Outside()
            policy.submit(Request(next(numbers), (5, 6, 7), number, sampling, episode))
        while len(done) < settings.requests:
            done += policy.poll()
            if dies and len(done) > settings.requests / 3:
                servers[-1].dead = True
        seconds = time.perf_counter() - began
        policy.close()
    assert sorted(c.request_id for c in done) == list(range(settings.requests)), "each exactly once"
    return settings.requests / seconds


def contenders(settings: Settings) -> dict[str, Callable[[], float]]:
    """What is compared; each call measures once, on fresh servers."""

    def over(kind: type[ServerPolicy], slower: Sequence[float], dies: bool = False) -> float:
        servers = [SlowServer(settings, factor) for factor in slower]
        try:
            return measure(kind, servers, settings, dies)
        finally:
            for server in servers:
                server.close()

    equal, uneven = (1.0, 1.0, 1.0), (1.0, 1.0, 3.0)
    return {
        "one server": lambda: over(ServerPolicy, (1.0,)),
        "three": lambda: over(ServerPolicy, equal),
        "three, round robin": lambda: over(RoundRobin, equal),
        "three, one of them three times slower": lambda: over(ServerPolicy, uneven),
        "the same, round robin": lambda: over(RoundRobin, uneven),
        "three, one of them dies after a third": lambda: over(ServerPolicy, equal, dies=True),
    }


def main() -> None:
    """Measures all contenders round by round and prints the medians."""
    settings = tyro.cli(Settings, description=__doc__)
    found: dict[str, list[float]] = {name: [] for name in contenders(settings)}
    for _ in range(settings.rounds):
        for name, measured in contenders(settings).items():
            found[name].append(measured())
    one = statistics.median(found["one server"])
    print("| servers | completions a second | of one server |\n| --- | --- | --- |")
    for name, rates in found.items():
        median = statistics.median(rates)
        print(f"| {name} | {median:.1f} | {median / one:.2f} |")


if __name__ == "__main__":
    main()
