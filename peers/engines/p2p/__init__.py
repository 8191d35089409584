"""What a node of a swarm does in libp2p's thread: who is where, notes, blocks, and contents made of blocks."""
