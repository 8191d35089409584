"""One side of a run: what a call must name, and that nothing of an earlier run is touched before a new one begins."""

import pytest
from consortium import consortium

from computation.coinstac.node import Folders
from computation.errors import MeshNetError, MessageError

STATE = {
    "clientId": "local0",
    "baseDirectory": "/input/local0/run",
    "outputDirectory": "/output/local0/run",
    "transferDirectory": "/transfer/local0/run",
}


@pytest.mark.parametrize("name", STATE)
@pytest.mark.parametrize("value", [None, 7, "", "/with\0end", ["/a"]])
def test_a_call_without_a_sound_name_or_folder_is_refused(name, value):
    with pytest.raises(MessageError, match=f"no sound {name}"):
        Folders({**STATE, name: value})


@pytest.mark.parametrize("value", ["two\nlines", "x" * 300])
def test_nor_is_one_with_a_name_that_would_fill_the_page(value):
    with pytest.raises(MessageError, match="no sound clientId"):
        Folders({**STATE, "clientId": value})


def test_a_relative_folder_is_taken_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folders({**STATE, "baseDirectory": "../input"}).base == tmp_path / "../input"
    assert str(Folders(STATE).base) == STATE["baseDirectory"]


@pytest.mark.parametrize("iteration", [None, 0, -1, True, 1.5, "1"])
def test_a_call_without_a_sound_iteration_is_refused(tmp_path, iteration):
    loop = consortium(tmp_path)
    with pytest.raises(MessageError, match="no sound iteration"):
        loop.call("local0", iteration, loop.specs["local0"])


@pytest.mark.parametrize(
    ("client", "message", "said"),
    [
        ("local0", {"data": ["site.db"], "epochs": "many"}, "'epochs'"),
        ("local0", {"unheard": 1}, "unheard"),
        ("remote", {}, "no site sent a message"),
        ("remote", {"local0": {"protocol": 99}}, "site local0: field 'protocol'"),
        ("remote", {"../../local0": {}}, "no plain name"),
        ("remote", {"..": {}}, "no plain name"),
    ],
)
def test_what_an_earlier_run_left_stays_where_a_new_one_cannot_begin(tmp_path, client, message, said):
    loop = consortium(tmp_path)
    (loop.folder("output", client) / "kept").write_text("of an earlier run")
    with pytest.raises(MeshNetError) as caught:
        loop.call(client, 1, message)
    assert said in caught.value.public
    assert [path.name for path in loop.folder("output", client).iterdir()] == ["kept"]


def test_a_run_under_way_is_not_begun_again(tmp_path):
    loop = consortium(tmp_path)
    loop.call("local0", 1, loop.specs["local0"])
    before = sorted(loop.folder("output", "local0").rglob("*"))
    with pytest.raises(MessageError, match="a run is under way in this process"):
        loop.call("local0", 1, loop.specs["local0"])
    assert sorted(loop.folder("output", "local0").rglob("*")) == before
