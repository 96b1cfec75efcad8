"""One contender of `two_gpus.py`: learns on its GPUs, and says what a step took."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from functools import wraps
from itertools import cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

import grpo_gpu_work as work  # noqa: E402
from grpo_gpu_engine import GIB, Requests  # noqa: E402
from grpo_gpu_ours import Ours  # noqa: E402
from grpo_gpu_run import Meter, Settings, parse_settings  # noqa: E402

SAMPLER_APART = "ours-apart"  # a learner on one GPU, vLLM's server on another, one step ahead


def main() -> None:
    """Runs as one process of a contender: `two_gpus_run.py SETTINGS-FILE RESULT-FILE`."""
    from taskgym.training.environment import prepare_environment
    from taskgym.training.ranks import joined

    prepare_environment()
    settings_file, result_file = map(Path, sys.argv[1:])
    settings = parse_settings(settings_file.read_text())
    ((name, completions),) = settings.pairs
    requests = ServerRequests() if name == SAMPLER_APART else Requests()
    with joined() as ranks:
        if name == SAMPLER_APART:
            _settle_server(settings)
            requests.install()
        policy = "server" if name == SAMPLER_APART else "vllm"
        contender = Ours(settings, "transformers", requests, ranks, policy)
        mine = completions // ranks.size
        requests.restart(mine)
        meter = Meter(settings)
        way = f"{name}-stale" if name == SAMPLER_APART else name
        contender.train(way, completions, meter)
        wanted = settings.all_steps * sum(work.lengths(mine))
        if sum(ranks.gather(requests.sampled)) != wanted * ranks.size:
            raise RuntimeError(f"{requests.sampled} tokens were sampled, {wanted} were the work")
        if ranks.first:
            result = {"contender": name, "completions": completions, "measured": meter.measured}
            result["tokens"] = sum(work.lengths(mine)) * ranks.size
            result_file.write_text(json.dumps(result | _device()))
        contender.close()


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
        self._lengths, self.sampled = cycle(work.lengths(completions)), 0


def _settle_server(settings: Settings) -> None:
    """Makes the server alike to the engines in process (`settle_engine`)."""
    import torch
    from taskgym.agents.vllm_server import VllmServer

    flags = ["--max-num-seqs", str(settings.most)]
    if torch.cuda.is_available():
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


def _device() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {"device": torch.cuda.get_device_name(0) if cuda else f"cpu, {os.cpu_count()} cores"}


if __name__ == "__main__":
    main()
