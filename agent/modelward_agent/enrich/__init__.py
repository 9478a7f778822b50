"""Spooled kernel records to wire rows: processes, containers, workloads, text, redaction."""
