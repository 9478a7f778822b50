"""What agent and collector agree on: the wire, the field table, text escaping, settings and logs."""

__version__ = "0.1.0"
