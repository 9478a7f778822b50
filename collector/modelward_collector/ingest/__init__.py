"""The receivers: streams of agents, checks, judging, and the way to the store process."""
