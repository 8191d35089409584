"""The scripts of requirements/ stand alone, as they do where nothing is installed yet."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "requirements"))
