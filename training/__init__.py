"""Learns: models and adapters, warm-up, GRPO, checkpoints, evaluation, commands and recipes."""

__all__: list[str] = []
