"""Runs a stranger's Python and says what happened."""

from taskgym.sandbox.job import Job, Limits, Result, SandboxUnavailable, Status
from taskgym.sandbox.pool import Sandbox
from taskgym.sandbox.shared import shared_sandbox

__all__ = [
    "Job",
    "Limits",
    "Result",
    "Sandbox",
    "SandboxUnavailable",
    "Status",
    "shared_sandbox",
]
