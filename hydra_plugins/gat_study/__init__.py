"""Hydra plugins: the sweeper that knows claims, and the launcher that returns. Hydra finds them by the package's name."""
