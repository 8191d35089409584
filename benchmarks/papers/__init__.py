"""The experiments of three papers without a centre, on their own data and networks; see `__main__`."""
