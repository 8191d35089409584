"""Whole runs under faults that a recorded seed draws; `python test/chaos/__main__.py --seeds 200`."""
