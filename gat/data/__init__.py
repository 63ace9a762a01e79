"""Real images to latents: sources, autoencoder, preparation, and the prepared set that training reads."""
