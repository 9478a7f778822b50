"""The model servers of the demo, each started as a program of its own."""
