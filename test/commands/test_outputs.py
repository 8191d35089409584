"""Tables that several processes write, and folders that take none."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from computation.commands import outputs
from computation.errors import MeshNetError


def listed(folder):
    return [path.name for path in folder.iterdir()]


ROOT = Path(__file__).parents[2]

#: Twenty rows, one after the other, as so many scans.
_MERGE = """
import sys
from pathlib import Path
from computation.commands import outputs
path = Path(sys.argv[1])
for number in range(20):
    with outputs.alone(path):
        outputs.merge_rows(path, ("scan", "ml"), [(f"{sys.argv[2]}-{number}", 0.5)])
"""


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_processes_that_write_one_table_lose_no_row(tmp_path):
    path = tmp_path / "new" / "volumes.csv"
    running = [subprocess.Popen([sys.executable, "-c", _MERGE, path, str(one)], cwd=ROOT) for one in range(4)]
    assert [one.wait(120) for one in running] == [0] * 4
    first, *others = rows(path)
    assert first == ["scan", "ml"]
    assert sorted(others) == sorted([f"{one}-{number}", "0.5"] for one in range(4) for number in range(20))
    assert listed(path.parent) == ["volumes.csv"]


def test_rows_take_the_place_of_those_of_the_same_scan(tmp_path):
    path = tmp_path / "t.csv"
    columns = ("scan", "ml")
    outputs.merge_rows(path, columns, [("=a", 1), ("=a", 2), ("b", 3)])
    outputs.merge_rows(path, columns, [("=a", 4)])
    assert rows(path) == [["scan", "ml"], ["b", "3"], ["'=a", "4"]]


@pytest.mark.parametrize("text", ["", "\ufeffscan,ml\n", "scan,ml\n\n"])
def test_a_table_without_rows_and_what_a_spreadsheet_puts_before_it(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, "utf-8")
    assert outputs.read_rows(tmp_path / "t.csv", ("scan", "ml")) == []


@pytest.mark.parametrize("content", [b"scan;ml\n", b"\xff\xfe", b"scan,ml\n" + b"a" * 200_000])
def test_another_table_is_refused(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(MeshNetError, match=r"other columns|cannot be read"):
        outputs.merge_rows(tmp_path / "t.csv", ("scan", "ml"), [("a", 1)])
    assert (tmp_path / "t.csv").read_bytes() == content


def test_a_folder_that_takes_no_file_is_refused_before_anything_is_made(tmp_path):
    outputs.check_folder(tmp_path / "new" / "newer")
    assert listed(tmp_path) == []
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/below", "link"):
        with pytest.raises(MeshNetError, match="cannot be written"):
            outputs.check_folder(tmp_path / name)
