"""Model identity: from an artifact that a workload opened to the model's name, format and sha256."""
