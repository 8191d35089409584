"""A node's process whose trainer computes nothing; `processes` starts and kills it."""

import sys
from pathlib import Path

TEST = Path(__file__).resolve().parents[1]
sys.path[:1] = [str(TEST.parent), str(TEST)]


def load(mode):
    """Return the product's own handler; a site's has a trainer that computes nothing."""
    from chaos import null
    from computation import entry

    return entry.load_handler(mode) if mode == "remote" else null.make()()


if __name__ == "__main__":
    from computation.entry import main

    sys.exit(main(load))
