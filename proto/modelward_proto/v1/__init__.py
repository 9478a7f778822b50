"""Generated from proto/modelward/v1 by ``make proto``."""
