"""What a member mounted: the one database, or a sentence that the member can act on."""

import json
import sqlite3

import pytest

from computation.errors import SettingsError
from neuroflame import data


def database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("create table t (x)")
    connection.close()
    return path


def test_the_one_database_is_found_whatever_it_is_called(tmp_path):
    database(tmp_path / "scans of 2024.sqlite")
    (tmp_path / "notes.txt").write_text("not a database")
    (tmp_path / "empty.db").touch()
    member, lent = data.resolve(tmp_path, {})
    assert member == {"data": ["scans of 2024.sqlite"]}
    assert lent == {"scans of 2024.sqlite": tmp_path / "scans of 2024.sqlite"}


def test_a_database_itself_may_be_mounted(tmp_path):
    path = database(tmp_path / "site.db")
    assert data.resolve(path, {}) == ({"data": ["site.db"]}, {"site.db": path})


def test_none_and_two_are_told_apart_and_named_to_the_member_alone(tmp_path):
    with pytest.raises(SettingsError, match="holds 0 SQLite files"):
        data.resolve(tmp_path, {})
    database(tmp_path / "one.db")
    database(tmp_path / "two.db")
    with pytest.raises(SettingsError, match="holds 2 SQLite files") as caught:
        data.resolve(tmp_path, {})
    assert "one.db" not in caught.value.public and "one.db, two.db" in caught.value.private


def test_a_member_may_name_one_of_several_and_a_device(tmp_path):
    (tmp_path / "sub").mkdir()
    database(tmp_path / "one.db")
    database(tmp_path / "sub/two.db")
    (tmp_path / data.MEMBER).write_text(json.dumps({"data": ["sub/two.db"], "device": "cpu"}))
    member, lent = data.resolve(tmp_path, {})
    assert member == {"data": ["sub/two.db"], "device": "cpu"} and lent == {"sub/two.db": tmp_path / "sub/two.db"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "something else"),
        ('{"epochs": 3}', "something else"),
        ('{"device": "tpu"}', "'device'"),
        ('{"data": ["../two.db"]}', "outside its data folder"),
        ('{"data": ["/etc/passwd"]}', "outside its data folder"),
    ],
)
def test_what_is_wrong_with_a_members_own_settings_is_said(tmp_path, text, said):
    database(tmp_path / "one.db")
    (tmp_path / data.MEMBER).write_text(text)
    with pytest.raises(SettingsError) as caught:
        data.resolve(tmp_path, {})
    assert said in caught.value.public and "passwd" not in caught.value.public


def test_a_model_to_start_from_is_taken_where_the_leader_names_one(tmp_path):
    database(tmp_path / "site.db")
    for name in ("best.json", "best.safetensors"):
        (tmp_path / name).write_text("{}")
    assert data.resolve(tmp_path, {})[0]["data"] == ["site.db"]
    member, lent = data.resolve(tmp_path, {"initial_model": "0" * 64})
    assert member["data"] == ["site.db", "best.json", "best.safetensors"] and len(lent) == 3


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SettingsError, match="mount it"):
        data.resolve(tmp_path / "none", {})
