"""vLLM's own server as a contender asks it: the settings and lengths of the engines in process."""

from __future__ import annotations

import dataclasses
import json
from functools import wraps
from itertools import cycle
from typing import Any

from grpo_gpu_engine import GIB, SHARE, Requests
from grpo_gpu_run import Settings
from grpo_gpu_work import lengths


class ServerRequests(Requests):
    """The same for a policy that asks a server: lengths are asked for, and counted as they come."""

    def install(self) -> None:
        """Every policy of this process goes by it from now on."""
        from taskgym.agents import server_policy

        policy = server_policy.ServerPolicy
        submit, poll = policy.submit, policy.poll
        server_policy._PLAIN |= {"ignore_eos": True}

        @wraps(submit)
        def with_length(asking: Any, request: Any) -> None:
            asking._stop_ids = []
            assert self._lengths is not None
            sampling = dataclasses.replace(request.sampling, max_tokens=next(self._lengths))
            submit(asking, dataclasses.replace(request, sampling=sampling))

        @wraps(poll)
        def counted(asking: Any) -> Any:
            done = poll(asking)
            self.sampled += sum(len(completion.ids) for completion in done)
            return done

        policy.submit, policy.poll = with_length, counted

    def restart(self, completions: int) -> None:
        """From now on generations have this many completions."""
        self._lengths, self.sampled = cycle(lengths(completions)), 0


def settle_server(settings: Settings) -> None:
    """Makes the server alike to the engines in process (`settle_engine`)."""
    import torch
    from taskgym.agents.vllm_server import VllmServer

    flags = ["--max-num-seqs", str(settings.most)]
    if torch.cuda.is_available():
        flags += ["--gpu-memory-utilization", str(SHARE)]
        flags += ["--kv-cache-memory-bytes", str(int(settings.cache * GIB))]
        graphs = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}
        graphs |= {"max_cudagraph_capture_size": settings.most}
        flags += ["--compilation-config", json.dumps(graphs)] * (settings.engine == "graphs")
        flags += ["--enforce-eager"] * (settings.engine == "eager")
    usual = VllmServer._spawn

    @wraps(usual)
    def spawn(server: Any) -> Any:
        server._command = [*server._command, *flags]
        return usual(server)

    VllmServer._spawn = spawn  # type: ignore[method-assign]
