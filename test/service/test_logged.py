"""Databases that many would make at the same moment, and that several processes have open."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from computation.errors import ServiceError
from service.identity.records import Records
from service.store.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", [Records, SqliteStore])
def test_all_who_make_a_database_at_once_have_it(tmp_path, kind):
    """One in twenty files was locked, or another program's, for one of the eight."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            made = [*pool.map(kind, [tmp_path / f"{number}.sqlite"] * 8)]
            for one in made:
                one.close()
            assert len(made) == 8


OPENED = {
    Records: "from service.identity.records import Account, Records as Kind\ndef add(one):\n"
    "    return one.add_account(Account('1', 'bob', frozenset()))",
    SqliteStore: "from service.protocol import Run\nfrom service.store.base import Create\n"
    "from service.store.sqlite import SqliteStore as Kind\ndef add(one):\n"
    "    one.write(Create(Run('1', 'bob', 'draft', '{}', '', 1, 1)))",
}


@pytest.mark.parametrize("kind", [Records, SqliteStore])
def test_who_has_it_open_twice_hears_of_other_processes(tmp_path, kind):
    """The second one, closed, took the first one's locks away: then the next process removed the log under it."""
    path = tmp_path / "file.sqlite"
    first = kind(path)
    kind(path).close()
    code = (
        "import sys; from pathlib import Path\n"
        + OPENED[kind]
        + "\none = Kind(Path(sys.argv[1])); add(one); one.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=ROOT)
    assert first.account("1") if kind is Records else first.run("1")
    assert path.with_name("file.sqlite-wal").exists()
    first.close()


@pytest.mark.parametrize("kind", [Records, SqliteStore])
def test_a_link_is_not_written_through(tmp_path, kind):
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ServiceError):
        kind(tmp_path / "link")
    assert not (tmp_path / "outside").exists()
