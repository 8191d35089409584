"""The experiments of two papers without a centre, on their own data and networks; see `__main__`."""
