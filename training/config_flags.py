"""Flags of `train_agent` and `evaluate_agent` alike: the env, and where completions come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from taskgym.training.config_fields import Kwargs, at_least


@dataclass(frozen=True)
class EnvFlags:
    """Which env, and on which rows."""

    env: str = "Arithmetic-v0"
    """Env id; `module:Id-v0` imports the module first, the working directory included."""
    data: str = ""
    """Rows of a dataset env: a hub id, a `.jsonl` or `.parquet`, or `sample`; empty: the env's."""
    split: str = ""
    """Split of the data; empty: the env's own default."""
    columns: dict[str, str] = field(default_factory=dict)
    """Where the rows keep `question` and `answer`, if not under those names."""
    env_kwargs: Kwargs = field(default_factory=dict)
    """More keyword arguments for the env, e.g. '{numeric: true}'."""

    def make_kwargs(self) -> dict[str, Any]:
        """The keyword arguments for `gymnasium.make`."""
        named = {"data": self.data, "split": self.split, "columns": self.columns}
        return {**{name: value for name, value in named.items() if value}, **self.env_kwargs}


@dataclass(frozen=True)
class PolicyFlags:
    """Where completions come from."""

    policy: Literal["transformers", "vllm", "server"] = "transformers"
    """transformers: the learner's own model, batch by batch. vllm: an engine in this process.
    server: vLLM's servers at --server-url, or one started and stopped by us; evaluation takes any
    OpenAI-compatible ones."""
    server_url: tuple[str, ...] = ()
    """Running servers of one model, such as http://node1:8000 http://node2:8000; their key is read
    from OPENAI_API_KEY."""
    server_connections: int = 64
    """Requests to each server under way at once."""
    server_timeout: float = 600.0
    """Seconds until a request to a server counts as lost and is sent again."""
    gpu_memory_utilization: float = 0.0
    """Share of the GPU's memory for vLLM's weights and cache. 0: what the learner leaves and a
    step's completions can use; nine tenths where nothing is learned."""
    decode_rows: int = 0
    """Completions that the learner's own model writes together (policy transformers); 0: as many as
    the GPU's memory has room for, 256 at most."""
    max_model_len: int = 0
    """Tokens of a prompt and its completions at most; 0: the model's own limit."""

    def __post_init__(self) -> None:
        at_least("server_connections", self.server_connections, 1)
        at_least("decode_rows", self.decode_rows, 0)
        at_least("max_model_len", self.max_model_len, 0)
        if self.server_timeout <= 0:
            raise ValueError(f"server_timeout must be above 0, got {self.server_timeout}")
        if not 0 <= self.gpu_memory_utilization < 1:
            raise ValueError(
                f"gpu_memory_utilization must be in [0, 1), got {self.gpu_memory_utilization}"
            )
        if len(set(self.server_url)) < len(self.server_url):
            raise ValueError(f"server_url names a server twice: {' '.join(self.server_url)}")
        if self.server_url and self.policy != "server":
            raise ValueError(f"server_url is for policy=server, got policy={self.policy}")

    @property
    def adapters_at_a_time(self) -> int:
        """How many adapters completions under way may have been begun with."""
        return 1
