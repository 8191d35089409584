"""No name means anything but what lies below the root, whatever it is made of."""

import os

import pytest
from clinics import SECRET
from hypothesis import given
from hypothesis import strategies as st

from computation.errors import ServiceError
from service.protocol import Malformed, Unknown
from service.site.root import Root

TRICKS = (
    "..", "../outside", "scans/../..", "scans/..", "/", "/etc/passwd", "//etc/passwd", "scans//table.csv", "./scans",
    "scans/.", ".hidden", ".hidden/site.db", "\0", "scans\0", "scans/\0/x", "no", "scans/no", "scans/table.csv/x",
    "%2e%2e", "%2e%2e/outside", "..%2foutside", "..\\outside", "out", f"out/{SECRET}.db", "file-out", "loop",
    "dangling", " ", "scans ", " scans", "a" * 5000, "a/" * 1000, "\udce9", "\ud800", "~", "scans/",
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root" / "scans").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / f"{SECRET}.db").write_text("x")
    for path in ("scans/table.csv", "scans/site.db"):
        (tmp_path / "root" / path).write_text("x")
    (tmp_path / "root" / ".hidden").mkdir()
    (tmp_path / "root" / ".hidden" / "site.db").write_text("x")
    for name, to in {"out": "../outside", "file-out": f"../outside/{SECRET}.db", "loop": "loop", "dangling": "nowhere",
                     "in": "scans", "up": "scans/../scans"}.items():  # fmt: skip
        (tmp_path / "root" / name).symlink_to(to)
    return Root.of(tmp_path / "root")


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_finds_nothing(root, name):
    for find in (root.find, root.file, root.subfolder):
        with pytest.raises(Unknown) as told:
            find(name)
        assert SECRET not in str(told.value)
    for ending in (f"{name}/new.db", f"{name}.db"):
        try:
            found = root.target(ending, ".db")
        except (Unknown, Malformed):
            continue
        # A folder's own new file, however odd it is called.
        assert found.parent in (root.folder, root.folder / "scans") and not found.exists()


def test_links_that_stay_inside_are_followed(root):
    assert root.find("in/table.csv") == root.find("up/table.csv") == root.folder / "scans" / "table.csv"
    assert root.target("in/new.db", ".db") == root.folder / "scans" / "new.db"


def test_a_name_of_any_bytes_is_found(root):
    odd = os.fsdecode(b"caf\xe9 \n<b>%2e")
    (root.folder / odd).mkdir()
    assert root.subfolder(odd).name == odd and root.name(root.folder / odd) == odd


def test_a_pipe_is_no_file(root):
    os.mkfifo(root.folder / "pipe.db")
    with pytest.raises(Unknown):
        root.file("pipe.db")
    with pytest.raises(Unknown):
        root.target("pipe.db", ".db")


@pytest.mark.parametrize(
    "name", ["out/new.db", "file-out", "scans/site.txt", "scans/.db", "scans/.x.db", "a\nb.db", ""]
)
def test_nothing_is_written_elsewhere_or_called_so(root, name):
    with pytest.raises((Unknown, Malformed)):
        root.target(name, ".db")


@given(st.text(st.sampled_from("./\\\0%2eEfFout scans")) | st.text())
def test_whatever_is_found_lies_below(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "laws"
    (folder / "root" / "scans").mkdir(parents=True, exist_ok=True)
    (folder / "out").mkdir(exist_ok=True)
    root = Root.of(folder / "root")
    try:
        found = root.find(name)
    except Unknown:
        return
    assert found.is_relative_to(root.folder)


def test_a_root_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "no", tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(ServiceError, match="no folder"):
            Root.of(path)


def test_what_is_not_below_has_no_name(root):
    assert root.name(root.folder) == root.name(root.folder.parent) == root.name(root.folder / "out") == ""
