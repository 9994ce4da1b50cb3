"""Hypothesis against the handshake and the session: targets, machines, campaigns. What `xlattice fuzz` runs."""
