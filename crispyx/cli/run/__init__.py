"""A whole screen as a file says: which steps, in what order, with what parameters."""
