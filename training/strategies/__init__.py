"""Measures 2048 strategies: plays them, sums up, compares, and shows their games."""
