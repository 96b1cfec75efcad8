"""One contender of `two_gpus.py`: learns on its GPUs, and says what a step took."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

import grpo_gpu_work as work  # noqa: E402
from grpo_gpu_engine import Requests  # noqa: E402
from grpo_gpu_ours import Ours  # noqa: E402
from grpo_gpu_run import Meter, parse_settings  # noqa: E402
from grpo_gpu_server import ServerRequests  # noqa: E402

# What a contender finds and leaves in its folder.
SETTINGS, READY, GO, RESULT = "settings.json", "ready-{}", "go", "result.json"
SAMPLER_APART = "ours-apart-stale"  # a learner on one GPU, vLLM's server on another, one step ahead
_PATIENCE = 45.0  # seconds from one word of what it is at to the next


def main() -> None:
    """Runs as one process of a contender: `two_gpus_run.py FOLDER`."""
    from taskgym.training.environment import prepare_environment
    from taskgym.training.ranks import joined
    from taskgym.training.watchdog import watched

    prepare_environment()
    folder = Path(sys.argv[1])
    settings = parse_settings((folder / SETTINGS).read_text())
    ((name, completions),) = settings.pairs
    requests = ServerRequests() if name == SAMPLER_APART else Requests()
    with joined() as ranks:
        policy = "server" if name == SAMPLER_APART else "vllm"
        contender = Ours(settings, "transformers", requests, ranks, policy)
        (folder / READY.format(ranks.rank)).touch()
        while not (folder / GO).exists():
            time.sleep(0.1)
        mine = completions // ranks.size
        requests.restart(mine)
        meter = Meter(settings, completions)
        with watched("measuring", _PATIENCE):
            contender.train(name, completions, meter)
        wanted = settings.all_steps(name, completions) * sum(work.lengths(mine))
        if sum(ranks.gather(requests.sampled)) != wanted * ranks.size:
            raise RuntimeError(f"{requests.sampled} tokens were sampled, {wanted} were the work")
        if ranks.first:
            result = {"contender": name, "completions": completions, "measured": meter.measured}
            result["tokens"] = sum(work.lengths(mine)) * ranks.size
            (folder / "result").write_text(json.dumps(result | _device()))
            (folder / "result").rename(folder / RESULT)
        contender.close()


def _device() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {"device": torch.cuda.get_device_name(0) if cuda else f"cpu, {os.cpu_count()} cores"}


if __name__ == "__main__":
    main()
