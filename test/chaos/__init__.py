"""Whole runs under faults that a recorded seed draws; `python test/chaos --seeds 200`."""
