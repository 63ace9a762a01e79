"""Commands: train, and later sweep, evaluate, benchmark."""
