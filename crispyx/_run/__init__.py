"""How work runs: threads, memory budget, progress, identity of inputs and parameters."""
