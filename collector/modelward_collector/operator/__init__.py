"""The ``modelward`` command: what people ask of a collector, from any machine that reaches it."""
