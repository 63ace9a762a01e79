"""Samples and what they are worth: Fréchet distance, class accuracy, grids."""
