"""Ordinary PyTorch loops that five lines make distributed: two networks, on data made from a seed or on MNIST."""
