"""Acts: policies, episodes, groups and traces."""

__all__: list[str] = []
