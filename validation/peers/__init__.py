"""The other tools: which versions, and a virtual environment for each."""
