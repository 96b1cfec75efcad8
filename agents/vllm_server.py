"""A vLLM server of our own on this machine: started, restarted when it dies, and stopped."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from taskgym.agents.server_client import ServerError
from taskgym.agents.vllm_engine import ENVIRONMENT, admitted_rank

logger = logging.getLogger(__name__)

MODEL = "base"  # the name that the base model is served under

_START_SECONDS = 900.0  # compiling for a GPU takes minutes, the first time
_MAX_RESTARTS = 3
# What holds for this process alone: how vLLM runs in it, and which learner of several it is.
_OURS = re.compile(
    "VLLM_ENABLE_V1_MULTIPROCESSING$|(LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE)$"
    "|MASTER_(ADDR|PORT)$|TORCHELASTIC_"
)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # looked up here, since between fork and exec it could deadlock


class VllmServer:
    """`vllm.entrypoints.openai.api_server` in a process group of its own.

    It asks for a key, a random one unless one is given, so that no other user can load adapters
    into it. It ends when this process does, however that comes about.

    Args:
        host: The address it listens at; this machine alone unless another is given.
        port: 0: a free one.

    Attributes:
        url: Where it answers on this machine, the same after a restart.
        key: What it asks for.
        log: The file its output goes to.
    """

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        max_lora_rank: int,
        max_model_len: int | None,
        gpu_memory_utilization: float,
        on_cpu: bool,
        log: Path,
        four_bit: bool = False,
        max_loras: int = 2,  # the one that writes and the one being brought
        lora_targets: Collection[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        key: str = "",
        gpu: str = "",
    ):
        self._port = port or _free_port()
        self.url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{self._port}"
        self.key = key or secrets.token_hex(16)
        self.log = log
        self._environment = _environment(self.key, gpu)
        self._restarts = 0
        self._stopped = False
        self._log_begin = 0  # where in the log the present process begins
        self._lock = threading.Lock()
        self._command = [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", model, "--served-model-name", MODEL),
            *("--host", host, "--port", str(self._port)),
            *("--dtype", dtype, "--logprobs-mode", "processed_logprobs"),
            *("--generation-config", "vllm"),
            *("--gpu-memory-utilization", f"{gpu_memory_utilization}"),
            *("--enable-lora", "--max-lora-rank", f"{admitted_rank(max_lora_rank)}"),
            *("--max-loras", f"{max_loras}"),
            # On a CPU vLLM 0.32 dies when a prompt is scored while other requests are generated,
            # unless it knows that the head is not adapted.
            *(("--lora-target-modules", *lora_targets) if on_cpu and lora_targets else ()),
            *(("--max-model-len", str(max_model_len)) if max_model_len else ()),
            *(("--enforce-eager", "--no-enable-chunked-prefill") if on_cpu else ()),
            *(("--quantization", "bitsandbytes") if four_bit else ()),
        ]
        # The kernel ends a process with the thread that started it: this one lives until `stop`.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="taskgym-server")
        self._process = self._start()

    @property
    def pid(self) -> int:
        """The process that answers now."""
        return self._process.pid

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called: it does not come back."""
        return self._stopped

    def wait_until_ready(self) -> None:
        """Returns when it answers.

        Raises:
            ServerError: It ended, or was not ready in a quarter of an hour.
        """
        import httpx

        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"vLLM's server ended while it started: {self._last_words()}")
            try:
                if httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.25)
        raise ServerError(f"vLLM's server was not ready in {_START_SECONDS:.0f} s; see {self.log}")

    def wait_until_ended(self) -> None:
        """Returns when the process that answers now has ended."""
        self._process.wait()

    def revive(self) -> None:
        """Starts it again if it has died, under the same address.

        Raises:
            ServerError: It dies again and again.
        """
        with self._lock:
            if self._stopped or self._process.poll() is None:
                return
            if self._restarts == _MAX_RESTARTS:
                raise ServerError(f"vLLM's server died {_MAX_RESTARTS + 1} times; see {self.log}")
            self._restarts += 1
            logger.warning("vLLM's server died (%s); starting it again", self._last_words())
            _end_group(self._process)
            self._process = self._start()
            self.wait_until_ready()

    def stop(self) -> None:
        """Ends it and what it started."""
        self._stopped = True  # not under the lock, which a restart holds for minutes
        self._starter.shutdown()  # after a start under way; none comes after it
        _end_group(self._process)

    def _start(self) -> subprocess.Popen[bytes]:
        return self._starter.submit(self._spawn).result()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self._log_begin = log.tell()
            return subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _last_words(self) -> str:
        """The end of its log, in which an exception names itself."""
        written = self.log.read_bytes()[self._log_begin :]
        lines = written.decode(errors="replace").splitlines()
        said = [line for line in lines if "Error" in line] or lines or ["it said nothing"]
        return f"{said[-1].strip()} (all of it: {self.log})"


def _environment(key: str, gpu: str) -> dict[str, str]:
    """The server's environment: in a process of its own it may use its own processes too.

    Args:
        key: What it asks for.
        gpu: The one it computes on, by the name that CUDA_VISIBLE_DEVICES takes; empty: ours.
    """
    kept = {k: v for k, v in os.environ.items() if not _OURS.match(k)}
    return {
        **ENVIRONMENT,
        **kept,
        **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_API_KEY": key,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """Asks the kernel to end this process when the thread that started it is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: asked first, made to after ten seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
