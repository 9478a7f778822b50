"""Outputs: detections leave the collector, signed, in order, at least once. A process of its own, started when one is set."""
