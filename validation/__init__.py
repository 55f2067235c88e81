"""Comparisons with outside tools."""
