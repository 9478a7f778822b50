"""The demo: real model servers, real attacks on loopback, and what Modelward detects, told on a terminal."""
