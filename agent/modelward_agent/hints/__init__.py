"""What processes say of their own phase: the hint socket, and how a declaration gets to the kernel side (docs/hints.md)."""
