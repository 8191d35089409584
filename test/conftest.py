"""Every test computes with one thread, so that bits do not depend on the machine."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests import ONNX Runtime themselves, too


def pytest_configure(config):
    import torch

    torch.set_num_threads(1)
