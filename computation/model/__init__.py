"""MeshNet: named architectures, the network, and its way into flat vectors and files."""
