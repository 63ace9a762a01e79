"""Diagnostics and figures from runs and results."""
