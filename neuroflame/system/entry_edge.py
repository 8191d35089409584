"""NeuroFLAME's command: `python /workspace/system/entry_edge.py`."""

import os
import sys

if __name__ == "__main__":  # as in computation/entry.py: nothing is imported from the working directory or this folder
    sys.path[: not getattr(sys.flags, "safe_path", False)] = [os.path.realpath(f"{__file__}/../../..")]
    from neuroflame.edge import main
    from neuroflame.processes import leave

    leave(main)
