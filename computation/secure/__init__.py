"""Sums of which nobody sees a single term: fixed point, masks that cancel, shares of them, keys, and a round of it all.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine learning", CCS 2017,
doi 10.1145/3133956.3133982, with one change: instead of a share of its key, a site gives the seed of one pair in one
round where the other of the pair is missing. So a key lasts for the run, and what is given of a round tells nothing of
another. Nothing here reads a file, speaks to anybody or knows a model.
"""
