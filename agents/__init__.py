"""Acts: policies, episodes, groups and traces."""

from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Episode, Start, Trajectory
from taskgym.agents.groups import DifferentStartsError, Group, Signal, collect_groups
from taskgym.agents.policy import Completion, Policy, Request, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.scripted import ScriptedPolicy
from taskgym.agents.seeds import derive_seed
from taskgym.agents.traces import read_episodes, replay_episode

__all__ = [
    "Completion",
    "DifferentStartsError",
    "Episode",
    "Group",
    "Policy",
    "Renderer",
    "Request",
    "Rollout",
    "Sampling",
    "ScriptedPolicy",
    "Signal",
    "Start",
    "Trajectory",
    "collect_groups",
    "derive_seed",
    "read_episodes",
    "replay_episode",
]
