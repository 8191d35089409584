"""A few of the seeds of `make chaos`, and that it would see what is wrong."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from chaos import judge, seeds
from chaos.crash import Crash, Killed, armed
from chaos.scenario import ENDING, FILES, HARMLESS, drawn

from computation.federation.centre import CentreRun
from computation.files import replacing
from computation.training.learner import Learner

SEEDS = range(0, 24, 2)


@pytest.fixture(scope="module", autouse=True)
def databases(tmp_path_factory):
    judge.prepare(tmp_path_factory.mktemp("made"))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_under_faults_ends_in_the_bits_of_one_without_or_says_why(tmp_path, seed):
    assert judge.judge(seed, tmp_path).told


@pytest.mark.parametrize("seed", range(1, 10, 2))
def test_so_does_one_behind_the_service(tmp_path, seed):
    pytest.importorskip("starlette", reason="THE SERVICE IS NOT TESTED: its extra is not installed")
    assert seeds.judged(seed, tmp_path).told


@pytest.mark.slow
def test_so_does_one_in_real_processes_that_are_killed(tmp_path):
    assert seeds.where(149) == "processes"
    assert seeds.judged(149, tmp_path).how == "unbroken"


@pytest.mark.parametrize("seed", [2, 3])
def test_a_seed_always_stands_for_the_same(tmp_path, seed):
    pytest.importorskip("starlette", reason="THE SERVICE IS NOT TESTED: its extra is not installed")
    assert seeds.scenario(seed) == seeds.scenario(seed) != seeds.scenario(seed + 2)
    assert len({seeds.judged(seed, tmp_path / name).told for name in "ab"}) == 1


def test_every_kind_of_fault_is_drawn_within_the_seeds_of_make_chaos():
    kinds = {fault.kind for seed in range(0, 200, 2) for fault in seeds.scenario(seed).faults}
    assert kinds == {*HARMLESS, *FILES, *ENDING}


def test_every_kind_of_fault_befalls_a_service_within_them():
    served = pytest.importorskip("chaos.served", reason="THE SERVICE IS NOT TESTED: its extra is not installed")
    kinds = {fault.kind for seed in range(1, 200, 2) for fault in served.drawn_here(seed).faults}
    assert kinds == {*served.REQUESTS, *served.FILES, served.NIGHT}


def _of(kind):
    """Return the first seed after whose faults nothing may be different, one of them of this kind."""
    return next(
        seed for seed in range(1000) if drawn(seed).harmless and any(f.kind == kind for f in drawn(seed).faults)
    )


def test_a_state_that_is_not_gone_back_to_is_seen(tmp_path, monkeypatch):
    load = Learner.load_state

    def forgetful(self, arrays, values):
        load(self, arrays, values)
        self._take(self.vector() + self.dtype.type(1e-3))

    monkeypatch.setattr(Learner, "load_state", forgetful)
    with pytest.raises(judge.Wrong, match="although nothing was lost"):
        judge.judge(_of("kill-before"), tmp_path)


def test_a_refusal_that_names_an_innocent_site_is_seen(tmp_path, monkeypatch):
    cut = (s for s in range(2000) if {f.kind for f in drawn(s).faults} == {"cut"} and len(drawn(s).sites) > 2)
    seed = next(s for s in cut if "is not signed by" in judge.judge(s, tmp_path / str(s)).told)
    guilty = {fault.client for fault in drawn(seed).faults}
    other = next(name for name in drawn(seed).sites if name not in guilty)
    monkeypatch.setattr("computation.federation.origin.named", lambda _: f"site {other}")
    with pytest.raises(judge.Wrong, match=other):
        judge.judge(seed, tmp_path / "wrong")


def test_a_round_that_is_combined_otherwise_is_seen(tmp_path, monkeypatch):
    contributions = CentreRun.contributions
    seed = next(s for s in range(1000) if drawn(s).faults and {f.kind for f in drawn(s).faults} == {"flipped"})
    assert judge.judge(seed, tmp_path / "sound").how == "course"

    def generous(self, offers, skipped):
        taken = contributions(self, offers, skipped)
        return [*taken, *taken[:1]] if any(why.startswith("refused") for why in skipped.values()) else taken

    monkeypatch.setattr(CentreRun, "contributions", generous)
    with pytest.raises(AssertionError):
        judge.judge(seed, tmp_path / "wrong")


# --- the crash itself -------------------------------------------------------------------------------------------------


def test_the_dead_remove_nothing(tmp_path):
    with armed(Crash("kill", 2, [str(tmp_path)])), pytest.raises(Killed), replacing(tmp_path / "a") as partial:
        partial.write_text("half")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["half"]


def test_a_full_disk_takes_no_file_and_gives_back_what_was_half_written(tmp_path):
    (tmp_path / "old").write_text("old")
    with armed(Crash("full", 1, [str(tmp_path)])):
        with pytest.raises(OSError) as caught, replacing(tmp_path / "a") as partial:
            partial.write_text("half")
        (tmp_path / "old").rename(tmp_path / "renamed")
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["renamed"]


def test_another_nodes_files_are_left_alone(tmp_path):
    with armed(Crash("kill", 1, [str(tmp_path / "own")])):
        (tmp_path / "owned-by-another").write_text("whole")


def test_one_seed_alone_is_told_with_what_befell_it():
    chaos = Path(judge.__file__).parent
    pytest.importorskip("starlette", reason="THE SERVICE IS NOT TESTED: its extra is not installed")
    said = subprocess.run([sys.executable, str(chaos), "--seed", "4"], capture_output=True, text=True, check=True)
    assert len(said.stdout.splitlines()) == 2 + len(drawn(4).faults)
