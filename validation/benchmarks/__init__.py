"""Whole-process comparisons with other tools, and benchmarks of the kernels."""
