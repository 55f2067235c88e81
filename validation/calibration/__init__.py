"""Null splits of real and simulated counts, power, and targets that are known."""
