"""A site and the centre, driven by packets alone: the digest of COINSTAC, and every failure an answer."""

import json
import shutil

import pytest
from consortium import SHORT, consortium, database

from computation.errors import MessageError
from computation.wire.payload import PREFIX
from neuroflame import results
from neuroflame.node import Centre, Site
from neuroflame.packet import CALL, END, ERROR, Packet
from neuroflame.places import ENDED, FAILED, RUNNING, VARIABLE, Places

SITES = ("local0", "local1")


def places(root, client, **changes):
    folder = root / client
    (folder / "output").mkdir(parents=True)
    names = changes.pop("names", {})
    told = {name: value for name, value in {**SHORT, **changes}.items() if name != "data"}
    (folder / "parameters.json").write_text(json.dumps({**told, "site_id_name_map": names}))
    data = None
    if client != "centre":
        data = database(folder / "data/some.db", seed=SITES.index(client)).parent
    return Places(client, folder, folder / "parameters.json", folder / "output", data, SITES)


def drive(root, *, turn=1, **changes):
    """Return the final answer of a run whose packets are passed on by hand."""
    centre = Centre(places(root, "centre", **changes))
    sites = {name: Site(places(root, name, **changes)) for name in SITES}
    call = Packet(1)
    while True:
        answers = {name: sites[name].answer(call.plain()) for name in SITES[::turn]}
        passed = {name: Packet.parse(name, answer.plain()) for name, answer in answers.items()}
        answer = centre.answer(call.iteration, passed)
        if answer.success:
            centre.end(answer)
            last = results.farewell(call.iteration, answer, centre.page)
            for site in sites.values():
                site.end(last.plain())
            return answer.output
        call = Packet(call.iteration + 1, message=answer.output, files=answer.files)


@pytest.fixture(scope="module")
def digest(tmp_path_factory):
    return consortium(tmp_path_factory.mktemp("loop"), 2).run()["model_digest"]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_digest_is_coinstacs_whatever_order_answers_come_in(tmp_path, digest, turn):
    assert drive(tmp_path, turn=turn)["model_digest"] == digest
    for name in (*SITES, "centre"):
        assert Places.told(Places(name, tmp_path / name, tmp_path, tmp_path).tell()).status.read()["state"] == ENDED
    assert (tmp_path / "local0/output/the-centre/index.html").is_file()


def test_sites_are_called_by_their_names(tmp_path):
    output = drive(tmp_path, names={"local0": "Hospital A", "local1": "Hospital B"})
    assert set(output["sites"]) == {"Hospital A", "Hospital B"}


def test_a_call_that_comes_twice_is_answered_with_the_same(tmp_path):
    site = Site(places(tmp_path, "local0"))
    first = site.answer(Packet(1).plain())
    assert first.kind == CALL and site.answer(Packet(1).plain()) is first


@pytest.mark.parametrize("raw", [None, {}, {"iteration": 1}, {**Packet(1).plain(), "files": {"site.db": b""}}])
def test_what_is_no_call_is_answered_with_a_sentence(tmp_path, raw):
    where = places(tmp_path, "local0")
    answer = Site(where).answer(raw)
    assert answer.kind == ERROR and "the centre sent" in answer.error
    assert where.status.read()["state"] == FAILED


def test_a_call_that_is_not_the_next_is_answered_with_a_sentence(tmp_path):
    assert "has answered 0" in Site(places(tmp_path, "local0")).answer(Packet(5).plain()).error


def test_what_goes_wrong_at_a_site_names_it_at_the_centre_and_no_more(tmp_path):
    where = places(tmp_path, "local1")
    (where.data / "some.db").write_bytes(b"SQLite format 3\0 and nothing of it")
    answer = Site(where).answer(Packet(1).plain())
    centre = Centre(places(tmp_path, "centre"))
    with pytest.raises(MessageError, match="site local1: the site's iteration 1") as caught:
        centre.answer(1, {"local1": answer})
    assert str(tmp_path) not in str(caught.value)
    assert "some.db" in (tmp_path / "local1/output/error.log").read_text()


def test_an_answer_to_another_call_is_refused(tmp_path):
    centre = Centre(places(tmp_path, "centre"))
    with pytest.raises(MessageError, match="answered call 2; wanted 1"):
        centre.answer(1, {"local0": Packet(2), "local1": Packet(1)})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (Packet.failed(3, "site b is gone").plain(), "site b is gone"),
        (Packet(3, END).plain(), "without its page"),
        (Packet(3, CALL, {}, {f"{PREFIX}page.html": b""}).plain(), "without its page"),
        (None, "no packet"),
    ],
)
def test_an_end_that_is_none_is_a_failure_and_says_why(tmp_path, raw, said):
    where = places(tmp_path, "local0")
    Site(where).end(raw)
    assert where.status.read()["state"] == FAILED and said in where.status.read()["reason"]


def test_a_page_of_the_centre_cannot_run_anything_at_a_site(tmp_path):
    page = b'"></iframe><script>alert(1)</script>'
    results.keep_farewell(tmp_path, Packet(1, END, {}, {f"{PREFIX}page.html": page}))
    kept = (tmp_path / "the-centre/index.html").read_text()
    assert "<script" not in kept and kept.count("</iframe>") == 1


def test_an_end_is_said_once(tmp_path):
    where = places(tmp_path, "local0")
    where.status.say(RUNNING)
    where.status.say(FAILED, "first")
    where.status.say(ENDED)
    assert where.status.read()["reason"] == "first"


def test_who_is_waited_for_is_said_once_each_and_only_in_a_sentence(tmp_path, capsys):
    where = places(tmp_path, "local0")
    site, said, one, other = Site(where), "", "waiting for site b", "waiting for site c"
    for told in ("", one, one, None, "x" * 601, "\x1b[2J", {"a": 1}, other):
        site.waits(told)
        said = where.pass_on(said)
    shown = [one, "all sites have answered", other]
    assert capsys.readouterr().out.splitlines() == [f"coinstac-meshnet: {text}" for text in shown]
    assert where.status.read()["state"] == ""


def test_where_nothing_can_be_written_a_site_still_lives(tmp_path):
    where = places(tmp_path, "local0")
    shutil.rmtree(where.folder)
    Site(where).waits("waiting for site b")
    assert not where.folder.exists()


def test_a_job_process_that_somebody_else_started_is_told(tmp_path):
    for environment in ({}, {VARIABLE: str(tmp_path / "none.json")}):
        with pytest.raises(MessageError, match="was not started by this computation's own script"):
            Places.told(environment)
