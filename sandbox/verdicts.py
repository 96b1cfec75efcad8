"""How a program can end, as its supervisor sees it; drivers see the same."""

from __future__ import annotations


class Ended(Exception):
    """The program is over.

    Attributes:
        status: A `Status`, as text.
        message: In words, where the supervisor knows it.
        report: What the child wrote about it, unparsed: it may be a lie.
    """

    def __init__(self, status: str, message: str = "", report: bytes = b""):
        super().__init__(message or status)
        self.status, self.message, self.report = status, message, report


class Raised(Ended):
    """One call failed: the program raised, or its value was no plain data. More may follow."""

    def __init__(self, report: bytes = b"", message: str = ""):
        super().__init__("error", message, report)


def nonsense() -> Ended:
    """The child broke the protocol, which no program can do that did not break out."""
    return Ended("crashed", "its process sent what is not a reply")
