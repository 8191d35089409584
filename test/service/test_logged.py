"""Databases that many would make at the same moment."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from service.identity.records import Records
from service.store.sqlite import SqliteStore


@pytest.mark.parametrize("kind", [Records, SqliteStore])
def test_all_who_make_a_database_at_once_have_it(tmp_path, kind):
    """One in twenty files was locked, or another program's, for one of the eight."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            made = [*pool.map(kind, [tmp_path / f"{number}.sqlite"] * 8)]
            for one in made:
                one.close()
            assert len(made) == 8
