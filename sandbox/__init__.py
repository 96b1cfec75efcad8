"""Runs a stranger's Python and says what happened."""

__all__: list[str] = []
