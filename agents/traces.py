"""Episodes as JSON lines, and back: every episode can be shown, rescored and re-stepped."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from taskgym.agents.episode import Episode, Start, TextEnv, Trajectory
from taskgym.agents.policy import Request, Sampling
from taskgym.agents.scripted import ScriptedPolicy, replay
from taskgym.envs.images import image_hash, to_png


def to_record(trajectory: Trajectory, env_id: str, step: int) -> dict[str, Any]:
    """One episode as JSON values. Images in messages become PNG as base64, with their hash."""
    t = trajectory
    return {
        **_plain(t.info),
        "step": step,
        "env": env_id,
        "seed": t.start.seed,
        "index": t.start.index,
        "sample_seed": t.start.sample_seed,
        "group": t.start.group,
        "member": t.start.member,
        "start_hash": t.start_hash,
        "messages": [_message(message) for message in t.messages],
        "prompt_ids": list(t.prompt_ids),
        "completion_ids": t.completion_ids,
        "mask": t.mask,
        "logprobs": [round(logprob, 6) for logprob in t.logprobs],
        "adapter_versions": t.versions,
        "rewards": t.rewards,
        "reward": t.reward,
        "stop": t.stop,
        "success": t.success,
        "truncated": t.truncated,
        "error": t.error,
    }


def portable(trajectory: Trajectory) -> Trajectory:
    """The same for another process: all that a record holds, without what only a model needs."""
    return replace(trajectory, seen=None, info=_plain(trajectory.info))


def write_episodes(path: Path, records: list[dict[str, Any]]) -> None:
    """Appends episodes to a `.jsonl` file, each as one line.

    A picture that several of them show is kept in the first; the others have its hash.
    """
    _once(records)
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def read_episodes(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a `.jsonl` file, one by one."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def replay_episode(record: dict[str, Any], env: TextEnv | None = None) -> Trajectory:
    """Steps the env again from the record's seed with the record's actions, without a model.

    An env that keeps its contract gives the same observations and rewards; compare `messages`,
    `rewards` and `reward` of what comes back with the record's.
    """
    start = Start(record["seed"], record["index"], 0, record["group"], record["member"])
    # The assistant's turns are text; pictures are shown anew by the env.
    said = [m["content"] for m in record["messages"] if m["role"] == "assistant"]
    policy = ScriptedPolicy(replay(said))
    episode = Episode(0, env or gym.make(record["env"]), start, Sampling())
    request: Request | None = episode.begin()
    while request is not None:
        policy.submit(request)
        request = episode.advance(policy.poll()[0])
    return episode.trajectory


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in info.items() if isinstance(v, str | int | float | bool)}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {"role": message["role"], "content": [_part(part) for part in content]}


def _once(records: list[dict[str, Any]]) -> None:
    kept: set[str] = set()
    for record in records:
        for part in _pictures(record):
            if part["hash"] in kept:
                del part["png"]
            kept.add(part["hash"])


def _pictures(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for message in record["messages"]:
        if isinstance(message["content"], list):
            yield from (part for part in message["content"] if "png" in part)


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] != "image":
        return part
    image = part["image"]
    return {"type": "image", "hash": image_hash(image), "png": _png(image)}


def _png(image: Any) -> str:
    return base64.b64encode(to_png(image)).decode()
