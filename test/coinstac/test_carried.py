"""Handlers over another carrier: the same run, the same bits, also after a restart; and nothing else gets in."""

import json
import os

import pytest
from carriage import SITES, Carriage
from consortium import SHORT, consortium

from computation import local, remote
from computation.coinstac.carried import MOST, Carried
from computation.errors import MeshNetError, MessageError
from computation.files import succession
from computation.wire.payload import PREFIX


@pytest.fixture
def carriage(tmp_path):
    made = Carriage(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def final(tmp_path_factory):
    """What COINSTAC's message path ends in, with sites of the same names."""
    loop = consortium(tmp_path_factory.mktemp("loop"), 2)
    loop.specs = dict(zip(SITES, loop.specs.values(), strict=True))
    for kind in ("input", "output", "transfer"):
        for index, site in enumerate(SITES):
            loop.folder(kind, f"local{index}").parent.rename(loop.folder(kind, site).parent)
    loop.handlers |= {site: loop.make["local"]() for site in SITES}
    loop.caches |= {site: {} for site in SITES}
    return loop.run()["model_digest"]


@pytest.mark.parametrize("turn", [1, -1])
def test_a_run_ends_in_the_same_model_as_on_the_platform(tmp_path, final, turn):
    carriage = Carriage(tmp_path)
    assert carriage.run(turn=turn) == final
    carriage.close()
    for site in SITES:
        assert (tmp_path / "run" / site / "output/index.html").is_file()


def test_a_run_whose_every_process_is_made_anew_ends_in_the_same_model(carriage, final):
    def between(carriage, side, iteration):
        if iteration > 1:
            carriage.restart(side)

    assert carriage.run(between=between) == final


def test_a_call_whose_answer_was_lost_is_answered_again_with_the_same_bytes(carriage, final):
    def between(carriage, side, iteration):
        if side == "b" and iteration in (1, 2, 4):
            seen.append(carriage.sides[side].call(iteration, *arrived(carriage, iteration)))
            carriage.restart(side)

    seen, passed = [], {}

    def arrived(carriage, iteration):
        return passed.get(iteration, (carriage.settings, {}))

    # What the centre answered is what came: kept here, for the answer that was lost.
    call = carriage.sides["centre"].call

    def kept(iteration, *given):
        verdict = call(iteration, *given)
        passed[iteration + 1] = (verdict.output, verdict.files)
        return verdict

    carriage.sides["centre"].call = kept
    assert carriage.run(between=between) == final
    assert seen[1].files and seen[1].output["status"] == "ok"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"site.db": b"x"}, "a name that none may have"),
        ({f"{PREFIX}../site.db": b"x"}, "a name that none may have"),
        ({f"../{PREFIX}model.bin": b"x"}, "a name that none may have"),
        ({f"{PREFIX}": b"x"}, "a name that none may have"),
        ({f"{PREFIX}a\0": b"x"}, "a name that none may have"),
        ({f"{PREFIX}{'a' * 65}": b"x"}, "a name that none may have"),
        ({7: b"x"}, "a name that none may have"),
        ({f"{PREFIX}model.bin": "text"}, "no bytes"),
        ({f"{PREFIX}model.bin": b"123456789"}, "9 bytes; wanted at most 8"),
        ({f"{PREFIX}{index}": b"" for index in range(MOST + 1)}, f"more than {MOST}"),
        ([b"x"], "no files by name"),
    ],
)
def test_files_that_no_side_sends_are_refused_and_nothing_is_written(tmp_path, files, said):
    with Carried(local.create(), tmp_path / "site", "a", largest=8) as site:
        with pytest.raises(MessageError, match="the centre sent") as caught:
            site.call(1, SHORT, files)
        assert said in str(caught.value)
    with Carried(remote.create(), tmp_path / "centre", "centre", largest=8) as centre:
        with pytest.raises(MessageError, match="site b sent") as caught:
            centre.call(1, {"a": {}, "b": {}}, {"a": {f"{PREFIX}initial.bin": b"x"}, "b": files})
        assert said in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(PREFIX)]


@pytest.mark.parametrize("site", ["", "..", "a/b", "../a", "two\nlines", "x" * 300, 7])
def test_sites_of_which_no_folder_can_be_made_are_refused(tmp_path, site):
    with Carried(remote.create(), tmp_path, "centre") as centre, pytest.raises(MessageError, match="no plain name"):
        centre.call(1, {site: {}}, {site: {f"{PREFIX}initial.bin": b"x"}})
    assert not list((tmp_path / "base").iterdir())


def test_files_without_a_message_are_refused(tmp_path):
    with Carried(remote.create(), tmp_path, "centre") as centre, pytest.raises(MessageError, match="sent no message"):
        centre.call(1, {"a": {}}, {"b": {f"{PREFIX}initial.bin": b"x"}})


@pytest.mark.parametrize("iteration", [0, 2, -1, True, "1", 1.0, None])
def test_calls_out_of_order_are_refused(carriage, iteration):
    with pytest.raises(MessageError, match="came to a folder whose run has answered 0"):
        carriage.sides["b"].call(iteration, SHORT)


def test_a_folder_that_a_run_has_used_is_refused_to_the_next(carriage):
    carriage.run()
    carriage.restart("b")
    with pytest.raises(MessageError, match=r"has answered \d+; wanted .* a folder of its own"):
        carriage.sides["b"].call(1, SHORT)


def test_two_do_not_use_one_folder(carriage, tmp_path):
    with pytest.raises(MessageError, match="in use by another run"):
        Carried(local.create(), tmp_path / "run/b", "b")
    carriage.sides["b"].call(1, SHORT)
    carriage.sides["b"].close()
    for service, client in ((local.create(), "a site"), (remote.create(), "b")):
        with pytest.raises(MessageError, match="already used by another site"):
            Carried(service, tmp_path / "run/b", client)
    Carried(local.create(), tmp_path / "run/b", "b").close()  # a refusal gives the folder up


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"side": 1}', '{"side": ["local", "b"], "iteration": NaN, "caches": []}']
)
def test_a_damaged_record_is_said(tmp_path, text):
    (tmp_path / "carried.json").write_text(text)
    with pytest.raises(MessageError, match="damaged record"):
        Carried(local.create(), tmp_path, "b")


@pytest.mark.parametrize("where", [0, 1], ids=["before", "settled"])
@pytest.mark.parametrize("left", [None, "", "{"], ids=["gone", "empty", "half"])
def test_a_record_that_a_power_cut_took_is_gone_back_behind(carriage, tmp_path, left, where):
    first = carriage.sides["b"].call(1, SHORT)
    carriage.sides["b"].close()
    newest, *older = succession(tmp_path / "run/b/carried.json")
    newest.rename(older[where])
    if left is not None:
        newest.write_text(left)
    carriage.restart("b")
    assert carriage.sides["b"].iteration == 1 and first.output
    older[where].write_text("{")
    newest.write_text("")
    with pytest.raises(MessageError, match="damaged record"):
        carriage.restart("b")


def test_an_error_is_one_sentence_without_anything_of_the_site(tmp_path):
    with Carried(local.create(), tmp_path / "planted-path", "b") as site:
        with pytest.raises(MessageError) as caught:
            site.call(1, SHORT)
        assert "planted" not in str(caught.value) and "\n" not in str(caught.value)
        assert "planted-path" in (site.output / "error.log").read_text()
        with pytest.raises(MessageError, match="JSON cannot carry"):
            site.call(1, {**SHORT, "learning_rate": float("nan")})


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(carriage, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    (tmp_path / "run/b/base" / f"{PREFIX}model.bin").symlink_to(outside)
    with pytest.raises(MessageError):
        carriage.sides["b"].call(1, {"unheard": 1}, {f"{PREFIX}model.bin": b"new"})
    assert outside.read_bytes() == b"kept"
    assert (tmp_path / "run/b/base" / f"{PREFIX}model.bin").read_bytes() == b"new"


def test_what_is_kept_is_what_the_platform_would_keep(carriage, tmp_path):
    carriage.sides["b"].call(1, SHORT)
    kept = json.loads((tmp_path / "run/b/carried.json").read_text())
    assert kept["side"] == ["local", "b"] and kept["iteration"] == 1 and set(kept["caches"][1]) == {"run", "token"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MeshNetError, match="may not be written"):
        Carried(local.create(), tmp_path / "run", "b")
