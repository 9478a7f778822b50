"""Functions of frameworks and drivers that are probed: which, what a call of each means, and where they are in a mapped file."""
