"""Starts the benchmark. Nothing else: every process that imports scans runs this file, and must not import torch."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from benchmarks.oasis.run import main

    sys.exit(main())
