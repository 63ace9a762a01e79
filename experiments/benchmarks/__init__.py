"""What ``experiments/benchmark.py`` measures, a module per kind."""
