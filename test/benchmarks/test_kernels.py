"""The script that measures the kernels measures full volumes as it says, and writes where it says."""

import json

from benchmarks import kernels


def test_a_full_volume_is_measured_warm(monkeypatch, capsys):
    ran = []
    monkeypatch.setitem(kernels.FULL, "some", lambda channels, size, keep: lambda: ran.append((channels, size, keep)))
    kernels.alone("some", 5, 8, 1)
    assert ran == [(5, 8, 1)] * 2
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] >= 0 and found["bytes"] > 1e6


def test_full_volumes_run_in_turn_and_the_median_and_the_largest_peak_are_said(monkeypatch, capsys):
    ran = []

    def measured(name, channels, size, keep):
        ran.append(name)
        return {"seconds": float(len(ran)), "bytes": len(ran) * 10**9}

    monkeypatch.setattr(kernels, "in_own_process", measured)
    rows = kernels.report_full((("one", 5, 1), ("other", 5, 2)), 8, 3)
    assert ran == ["one", "other"] * 3
    assert rows[0] == ["full one", 5, 8, 1, 10**9, 0, 1.0] and len(rows) == 6
    assert "one  5 ch 8^3 keep 1 |   3.00 s | peak  5.00 GB" in capsys.readouterr().out


def test_an_own_process_prints_what_is_read():
    found = kernels.in_own_process("torch inference", 1, 8, 1)
    assert found["seconds"] > 0 and found["bytes"] > 1e6


def test_full_volumes_are_repeated_often_enough_and_results_lie_beside_the_others(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(kernels, "report_full", lambda arms, size, repeats: asked.append(repeats) or [])
    out = tmp_path / "new" / "kernels.csv"
    monkeypatch.setattr("sys.argv", ["kernels.py", "--what", "full", "--repeats", "1", "--csv", str(out)])
    kernels.main()
    assert asked == [3] and out.exists()
    assert kernels.RESULTS.parent.name == "results" and kernels.RESULTS.parent.parent.name == "benchmarks"
