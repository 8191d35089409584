"""Where files are kept: one contract, and an implementation for each place."""
