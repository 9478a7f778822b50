"""The stream to the collector: who it may be, and one connection's life after another."""
