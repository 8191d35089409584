"""Secure aggregation in a run: what of `computation.secure` a site and the centre do in each phase."""
