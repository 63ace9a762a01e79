"""Sweeps: from a claim to its jobs, their submission, their states, and the table of their results."""
