"""Asks and scores: tasks, observations, rubrics and the registered environments."""

from taskgym.envs.core import ChatEnv, MultiTurnEnv, Reply, SingleTurnEnv, Stop
from taskgym.envs.errors import DataError, MachineryError, RewardError, TaskgymError
from taskgym.envs.registration import register_envs
from taskgym.envs.rubric import Component, Rubric, Task
from taskgym.envs.spaces import Action, Chat, Message, Messages

__all__ = [
    "Action",
    "Chat",
    "ChatEnv",
    "Component",
    "DataError",
    "MachineryError",
    "Message",
    "Messages",
    "MultiTurnEnv",
    "Reply",
    "RewardError",
    "Rubric",
    "SingleTurnEnv",
    "Stop",
    "Task",
    "TaskgymError",
]

register_envs()
