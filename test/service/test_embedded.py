"""The whole service in real processes: the same model as everywhere, whatever is killed on the way."""

import json
import os
import signal
from functools import partial

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from consortium import SHORT, consortium, database
from services import Service, by_url, killing, slow

pytestmark = pytest.mark.slow

SITES = [f"local{index}" for index in range(4)]
SETTINGS = {name: value for name, value in SHORT.items() if name != "data"}
FEDAVG = {**SETTINGS, "strategy": "fedavg", "local_steps": 2, "epochs": 4}


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("databases")
    return {site: database(folder / f"{site}.db", seed=index) for index, site in enumerate(SITES)}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    made = Service(tmp_path_factory.mktemp("service"))
    made.enrol(*SITES)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What COINSTAC's message path ends in, for so many sites and settings; made once."""
    made = {}

    def final(sites, settings):
        key = sites, str(settings)
        if key not in made:
            made[key] = consortium(tmp_path_factory.mktemp("loop"), sites, changes=settings).run()["model_digest"]
        return made[key]

    return final


def ended(processes, *, seconds=60):
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


@pytest.mark.parametrize(
    ("sites", "settings", "prepare"), [(4, SETTINGS, None), (2, FEDAVG, by_url)], ids=["gradient-mean", "fedavg by URL"]
)
def test_a_run_over_https_ends_in_the_platforms_model(service, databases, expected, sites, settings, prepare):
    names = SITES[:sites]
    run = service.invite(settings, *names)
    processes = [run.join(site, databases[site], prepare=prepare) for site in names]
    run.start()
    final = run.end()["model_digest"]
    assert ended(processes) == [0] * sites
    assert final == expected(sites, settings)
    assert {max(run.digests(site).items())[1] for site in names} == {final}
    for site in names:
        results = run.output(site) / "results"
        assert (results / "index.html").is_file() and (results / "model" / "best.safetensors").is_file()


#: Where site local1 dies, one after the other in one run: steps 1 to 4 are rounds, 5 and 6 the finish.
DEATHS = [
    (0, "before its commit"),
    (0, "after its commit"),
    (1, "before its answer is written down"),
    (1, "before its commit"),
    (2, "after its commit"),
    (3, "before it computes"),
    (4, "before its answer is written down"),
    (5, "after its commit"),
    (6, "before its commit"),
]


def test_a_site_that_is_killed_at_every_state_ends_in_the_unbroken_model(service, databases, expected):
    run = service.invite(SETTINGS, *SITES[:2])
    steady = run.join("local0", databases["local0"])
    for number, death in enumerate(DEATHS):
        dying = run.join("local1", databases["local1"], prepare=partial(killing, *death))
        if number == 2:
            run.start()
        assert ended([dying]) == [-signal.SIGKILL], (death, run.said("local1"))
    last = run.join("local1", databases["local1"])
    assert run.end()["model_digest"] == expected(2, SETTINGS)
    assert ended([steady, last]) == [0, 0]
    assert run.digests("local1") == run.digests("local0") and len(run.digests("local1")) == 4
    assert (run.output("local1") / "results" / "index.html").is_file()


def test_a_worker_and_a_server_that_are_killed_lose_nothing(service, databases, expected):
    settings = {**SETTINGS, "epochs": 4}
    run = service.invite(settings, *SITES[:2], deadline=600)
    processes = [run.join(site, databases[site], prepare=partial(slow, 0.3)) for site in SITES[:2]]
    run.start()
    run.wait(2)
    os.kill(service.worker, signal.SIGKILL)
    run.wait(4)
    service.kill()
    service.start()
    assert run.end()["model_digest"] == expected(2, settings)
    assert ended(processes) == [0, 0]


def test_a_site_that_drops_out_comes_back_into_the_run(service, databases):
    settings = {**SETTINGS, "epochs": 8, "validate_every": 100}
    run = service.invite(settings, *SITES[:2], quorum=1, deadline=2, inactive_after=2)
    steady = run.join("local0", databases["local0"], prepare=partial(slow, 0.2))
    gone = run.join("local1", databases["local1"], prepare=partial(killing, 2, "before its commit"))
    run.start()
    assert ended([gone]) == [-signal.SIGKILL]
    for step in (2, 3, 4):
        assert run.wait(step)["skipped"] == {"local1": "absent"}
    back = run.join("local1", databases["local1"])
    final = run.end()["model_digest"]
    assert ended([steady, back]) == [0, 0], run.said("local1")
    assert "come back into the run" in run.said("local1")
    assert run.digests("local1") == run.digests("local0") and run.digests("local1")[16] == final
    verdicts = [run.wait(step) for step in range(1, 17)]
    assert verdicts[-1]["counted"] == ["local0", "local1"]


def test_no_log_holds_a_token_a_subject_or_a_place(service, databases):
    text = service.place.log.read_text()
    secrets = [json.loads(service.credentials(site).read_text())["token"] for site in SITES]
    places = [str(service.folder), *map(str, databases.values())]
    for planted in (*secrets, *service.subjects.values(), *places, "mnc_", "mnr_", "mna_", "person-", "Bearer"):
        assert planted not in text
    assert "route=/v1/runs/{run}/accept" in text and "status=5" not in text
    for path in service.place.folder.rglob("*"):
        assert path.is_dir() or path.is_socket() or not path.stat().st_mode & 0o077, path


def test_two_processes_do_not_share_a_sites_folder(service, databases):
    run = service.invite(SETTINGS, *SITES[:2])
    first = run.join("local0", databases["local0"])
    run.accepted(1)
    second = run.join("local0", databases["local0"])
    assert ended([second]) == [2] and "in use by another run" in run.said("local0")
    run.link.post(f"{run.at}/abort")
    assert ended([first]) == [2] and "the run is aborted" in run.said("local0")
