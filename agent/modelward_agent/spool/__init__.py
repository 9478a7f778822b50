"""The bounded spool on disk: numbered, immutable batches of kernel records between the drainer and the sender."""
