"""How long torch compiles Unsloth's log-softmax over chunks, by their number; no GPU needed.

    python benchmarks/unsloth_compile.py [--chunks 4 8 16]

Needs Unsloth (constraints/gpu.txt) and a C++ compiler. Shapes are small: what takes the time is the
reasoning about symbolic sizes, which does not depend on them. docs/gpu.md says what follows.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import tyro

# Read when the package is imported: to be let in on a CPU, and not to find compiled graphs.
os.environ |= {"UNSLOTH_ALLOW_CPU": "1", "UNSLOTH_IS_PRESENT": "1"}
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

ROWS, LENGTH, WIDTH, VOCABULARY = 8, 130, 64, 512


@dataclass(frozen=True)
class Arguments:
    """Compile times by the number of chunks."""

    chunks: tuple[int, ...] = (4, 8, 16)
    """How many; GRPO makes four for each completion of a batch."""


def main() -> None:
    """Prints one line a number."""
    import torch
    import unsloth_zoo.rl_replacements as unsloth

    function: Any = unsloth.chunked_hidden_states_selective_log_softmax
    while inner := getattr(function, "_torchdynamo_orig_callable", None):
        function = inner
    hidden_BTH = torch.randn(ROWS, LENGTH, WIDTH, dtype=torch.bfloat16)
    head_VH = torch.randn(VOCABULARY, WIDTH, dtype=torch.bfloat16)
    ids_BT = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    options = dict(unsloth.torch_compile_options)
    for chunks in tyro.cli(Arguments).chunks:
        torch._dynamo.reset()
        compiled = torch.compile(function, dynamic=True, fullgraph=True, options=options)
        began = time.process_time()
        with torch.no_grad():
            compiled(hidden_BTH, head_VH, ids_BT, chunks)
        print(f"{chunks:4} chunks: {time.process_time() - began:6.1f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
