"""Every test computes with one thread, so that bits do not depend on the machine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config):
    import torch

    torch.set_num_threads(1)
