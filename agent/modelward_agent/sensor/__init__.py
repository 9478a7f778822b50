"""From kernel hooks to numpy batches: loads the kernel side, attaches its doors, adopts running servers, drains the rings."""
