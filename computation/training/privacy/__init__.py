"""Differential privacy of the training scans: each one's gradient is bounded, and their sum is hidden in noise.

The unit is a scan: two runs that differ in one scan of one site cannot be told apart by whoever sees all that the site
sends of its training, but for what `dp_epsilon` and `dp_delta` allow (Abadi et al. 2016, arXiv 1607.00133).
"""
