"""The replay of attacks on honest updates: who attacks, with what, and that each case remembers by itself."""

import numpy as np

from benchmarks.screened import FIFTH, SITES, Case
from computation.strategies import Contribution

DRAWS = np.random.default_rng(0)


def _screened(attack, rounds=12):
    case, common = Case(attack), DRAWS.normal(size=500)
    for number in range(1, rounds + 1):
        values = common + DRAWS.normal(size=(4, 500))
        offers = [
            Contribution(site, number, f"m{number}", 1.0, 0.5, one.astype(np.float32))
            for site, one in zip(SITES, values, strict=True)
        ]
        case.screen(offers, np.zeros(500, np.float32), {"parameters": slice(0, 500)})
    return case


def test_each_attack_is_found_for_its_own_reason_and_nobody_else_is_touched():
    found = {attack: _screened(attack) for attack in ("none", "x1000", "stale", "zeros", "mimic", "inner product")}
    assert not any(found["none"].told) and found["none"].attacker == ""
    assert found["x1000"].told[0] == "outlier" and found["stale"].told[:2] == ["", "stale"]
    assert found["zeros"].told[7] == "empty" and found["mimic"].told[7] == "twin"
    assert found["inner product"].told[7] in ("opposed", "excluded") and found["mimic"].attacker == FIFTH
    assert not any(case.honest for case in found.values())
