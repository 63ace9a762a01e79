"""The training step, the optimizer's rule, the state of a run, and the loop."""
