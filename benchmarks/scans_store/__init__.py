"""The scan database against the peer's table; see `__main__`."""
