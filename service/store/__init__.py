"""Where records are kept: one contract, and an implementation for each place."""
