"""Comparisons of crispyx with other tools: speed, memory and agreement.

Not part of the installed package. ``python -m validation --help`` says what it does.
"""
