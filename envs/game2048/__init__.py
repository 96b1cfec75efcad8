"""2048: the engines, the ladder of players to measure against, and the environments."""
