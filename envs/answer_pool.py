"""Worker processes that run math-verify, each under a hard limit per answer.

Processes, not threads, because sympy can neither be interrupted nor trusted with memory; started
with `subprocess`, not `multiprocessing`, because envs run in daemonic workers, which may have no
children of that kind. No signal is used in the calling process, so any thread may ask and an
alarm set by the caller stays alive.
"""

from __future__ import annotations

import atexit
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path

# By its path, so that no package is imported for it; -P keeps this folder off its sys.path.
_COMMAND = [sys.executable, "-P", str(Path(__file__).with_name("answer_worker.py"))]
_START = 120.0  # seconds in which a worker has to import sympy, on a machine however busy


class WorkerCrashError(RuntimeError):
    """A worker died of something else than its time limit."""


class OverrunError(TimeoutError):
    """An answer took longer than its limit."""


class Worker:
    """One child process and the pipes to it. Not thread safe: the pool lends it to one caller."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            _COMMAND,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the parent, which ends its workers itself
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.ready = False

    def ask(self, gold: str, answer: str, limit: float) -> str:
        """Return the worker's word on one pair, within ``limit`` seconds after it was sent.

        Raises:
            OverrunError: there was no word in time. The worker is of no more use.
            WorkerCrashError: the worker died. It is of no more use.
        """
        if not self.ready:
            self._read(_START)
            self.ready = True
        # both texts are at most 4 KiB, so the request always fits into an empty pipe
        request = json.dumps({"gold": gold, "answer": answer, "limit": limit}) + "\n"
        try:
            self.requests.write(request.encode())
        except BrokenPipeError as error:
            raise WorkerCrashError("the verifier's worker is gone") from error
        return self._read(limit)

    def _read(self, limit: float) -> str:
        end = time.monotonic() + limit
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(left := max(0.0, end - time.monotonic())):
                    if left:  # an alarm of the caller may cut the waiting short
                        continue
                    raise OverrunError(f"no verdict within {limit} s")
                chunk = self.replies.read(64)
                if not chunk:
                    raise WorkerCrashError("the verifier's worker ended")
                line += chunk
        return line.decode().strip()

    def kill(self) -> None:
        """End the process at once and close its pipes."""
        self.process.kill()
        self.process.wait()
        self._close()

    def disown(self) -> None:
        """In a forked child: close the parent's pipes, or the worker would outlive the parent."""
        self.process.returncode = 0  # not ours to wait for
        self._close()

    def _close(self) -> None:
        self.requests.close()
        self.replies.close()


class Pool:
    """At most ``size`` workers, started when they are first needed and used by any thread."""

    def __init__(self, size: int) -> None:
        self.workers: set[Worker] = set()
        self._slots: queue.LifoQueue[Worker | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    def ask(self, gold: str, answer: str, limit: float) -> str:
        """Return ``equal``, ``different``, ``unparsed``, ``timeout`` or ``error``.

        ``limit`` is in seconds and runs from the moment a worker has the pair: neither waiting for
        a free worker nor starting one counts. A crash is retried once on a fresh worker.
        """
        slot = self._slots.get()
        worker: Worker | None = None
        try:
            worker = slot or self._start()
            try:
                return worker.ask(gold, answer, limit)
            except WorkerCrashError:
                self._end(worker)
                worker = self._start()
                return worker.ask(gold, answer, limit)
        except OverrunError:
            self._end(worker)
            worker = None
            return "timeout"
        except WorkerCrashError:
            self._end(worker)
            worker = None
            return "error"
        except BaseException:  # such as the caller's own alarm: its reply would come to the next
            self._end(worker)
            worker = None
            raise
        finally:
            self._slots.put(worker)

    def _start(self) -> Worker:
        worker = Worker()
        self.workers.add(worker)
        return worker

    def _end(self, worker: Worker | None) -> None:
        if worker is not None:
            self.workers.discard(worker)
            worker.kill()

    def close(self) -> None:
        """Kill every worker."""
        while self.workers:
            self.workers.pop().kill()


_pool: Pool | None = None
_pool_lock = threading.Lock()


def shared() -> Pool:
    """Return this process's pool, which has as many workers as the machine has cores."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = Pool(os.cpu_count() or 1)
        return _pool


def _forget() -> None:
    """In a forked child: pipes cannot be shared, and another thread may have held the lock."""
    global _pool, _pool_lock
    pool, _pool, _pool_lock = _pool, None, threading.Lock()
    for worker in pool.workers if pool is not None else ():
        worker.disown()


def _close() -> None:
    if _pool is not None:
        _pool.close()


os.register_at_fork(after_in_child=_forget)
atexit.register(_close)
