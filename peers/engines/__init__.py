"""What carries a protocol's requests: virtual time in one process, or a network between many."""
