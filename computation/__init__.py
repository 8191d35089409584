"""Federated MeshNet training as a COINSTAC computation."""

__version__ = "0.1.0"
