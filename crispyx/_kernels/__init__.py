"""Compiled inner loops: one family a file, arrays in and arrays out, no Python objects inside.

``layout`` holds the two array layouts every kernel reads. Callers allocate outputs; problems come
back as positions or status codes, which the rooms above turn into messages.
"""
