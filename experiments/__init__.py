"""Commands: prepare data, train, sweep, collect, evaluate, sample, export and benchmark."""
