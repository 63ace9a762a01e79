"""GAT-Repro: the core trainer of a reproduction of "Scalable GANs with Transformers" (arXiv 2509.24935)."""

__version__ = "0.1.0"
