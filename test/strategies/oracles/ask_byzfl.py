"""What ByzFL 0.0.11 makes of a few random vectors: run once, by hand; its numbers are in byzfl.json beside this file.

Run: `pip install --no-deps --target /tmp/byzfl byzfl==0.0.11` (it wants NumPy, SciPy and PyTorch), then
`PYTHONPATH=/tmp/byzfl python test/strategies/oracles/ask_byzfl.py`. Nothing of it is needed by the tests.

Its Krum sums one neighbour more than the paper's, which is the paper's with one false site more, so that is what is
asked of it. Its geometric median starts at zero and stops after `T` steps: so many that nothing moves.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np

CASES = [(5, 1, 7), (7, 2, 5), (9, 3, 4), (8, 0, 3), (6, 1, 6)]


def main():
    # The package itself would import its benchmarks, and all that they need.
    found = importlib.util.find_spec("byzfl")
    package = types.ModuleType("byzfl")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["byzfl"] = package
    rules = importlib.import_module("byzfl.aggregators.aggregators")
    before = importlib.import_module("byzfl.aggregators.preaggregators")
    rng = np.random.default_rng(20)
    cases = [case(rules, before, rng, *sizes) for sizes in CASES]
    told = {"byzfl": importlib.metadata.version("byzfl"), "numpy": np.__version__, "cases": cases}
    Path(__file__).with_name("byzfl.json").write_text(json.dumps(told) + "\n", encoding="utf-8")


def case(rules, before, rng, count, false, size):
    vectors = rng.normal(1, 1, (count, size))
    vectors[:false] += rng.normal(4, 6, (false, size))
    start = np.median(vectors, axis=0)
    radius = float(np.median(np.linalg.norm(vectors - start, axis=1)))
    centred = rules.CenteredClipping(L=3, tau=radius)
    centred.m = start
    mixed = before.NNM(false)(vectors)
    return {
        "byzantine": false,
        "vectors": vectors.tolist(),
        "median": rules.Median()(vectors).tolist(),
        "trimmed-mean": rules.TrMean(false)(vectors).tolist(),
        "geometric-median": rules.GeometricMedian(nu=1e-9, T=5000)(vectors).tolist(),
        "centred-clipping": {"radius": radius, "value": centred(vectors).tolist()},
        "krum": rules.Krum(false + 1)(vectors).tolist() if 2 * false + 3 <= count else None,
        "mixed": mixed.tolist(),
        "mixed trimmed-mean": rules.TrMean(false)(mixed).tolist(),
        "clipped": before.ARC(false)(np.array(vectors)).tolist(),
    }


if __name__ == "__main__":
    main()
