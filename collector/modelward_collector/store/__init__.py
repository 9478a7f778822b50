"""The store process: the engine (chdb) alone, its tables, exactly-once inserts, and queries."""
