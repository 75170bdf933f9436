"""Speed as a ratio against a second thing in the same process; ``tools/bench.py`` prints it."""
