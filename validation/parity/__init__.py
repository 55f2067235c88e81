"""Every method against the tool it is held to: outside | reference | compiled."""
