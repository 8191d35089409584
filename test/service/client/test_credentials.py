"""Secrets come from a file that nobody else can read, or the environment, and never get into a text."""

import json
import os

import pytest

pytest.importorskip("httpx", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from computation.errors import IdentityError
from service.client import credentials
from service.client.credentials import TOKEN, Credentials

SECRET = "mnc_planted-secret"


def written(path, content, mode=0o600):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [SECRET, f"  {SECRET}\n", f"{SECRET}\r\n", {"token": SECRET}])
def test_a_file_holds_a_token(tmp_path, content):
    assert credentials.read(written(tmp_path / "token", content), {}).token == SECRET


@pytest.mark.parametrize("content", [f"\ufeff{SECRET}\r\n", f'\ufeff{{"token": "{SECRET}"}}\r\n'])
def test_a_file_may_have_been_saved_by_an_editor_that_marks_its_bytes(tmp_path, content):
    assert credentials.read(written(tmp_path / "token", content), {}).token == SECRET


def test_a_file_holds_what_a_token_can_be_had_for(tmp_path):
    pool = {"sign_in": "https://pool", "client": "c", "username": "u", "password": SECRET}
    assert credentials.read(written(tmp_path / "pool", pool), {}) == Credentials(**pool)
    session = {"server": "https://centre", "refresh": SECRET}
    assert credentials.read(written(tmp_path / "session", session), {}) == Credentials(**session)


def test_the_environment_holds_a_token_and_a_file_comes_first(tmp_path):
    assert credentials.read(None, {TOKEN: SECRET}).token == SECRET
    assert credentials.read(written(tmp_path / "token", "mnc_other"), {TOKEN: SECRET}).token == "mnc_other"
    with pytest.raises(IdentityError, match="--credentials"):
        credentials.read(None, {})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o620, 0o610])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path, mode):
    with pytest.raises(IdentityError, match="chmod 600") as caught:
        credentials.read(written(tmp_path / "token", SECRET, mode), {})
    assert SECRET not in str(caught.value)


def test_links_pipes_folders_and_nothing_are_refused(tmp_path):
    written(tmp_path / "token", SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "token")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", ".", "missing"):
        with pytest.raises(IdentityError, match="cannot be read"):
            credentials.read(tmp_path / name, {})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "two\nlines",
        f"{SECRET}\r\nX-Injected: 1",
        "mnc_é",
        {},
        {"token": ""},
        {"token": 7},
        {"token": f"{SECRET}\n"},
        {"tokn": SECRET},
        {"token": SECRET, "refresh": SECRET},
        {"sign_in": "https://pool", "refresh": SECRET},
        {"username": "u", "password": SECRET},
        {"username": "u", "sign_in": "https://pool", "client": "c"},
        "x" * 10_000,
        '{"token": "a", "token": "b"}',
    ],
    ids=lambda content: str(content)[:20],
)
def test_what_is_no_secret_is_refused_without_being_told(tmp_path, content):
    with pytest.raises(IdentityError) as caught:
        credentials.read(written(tmp_path / "token", content), {})
    assert "mnc_" not in str(caught.value) and "\n" not in str(caught.value)


def test_no_representation_holds_a_secret():
    held = Credentials(sign_in="https://pool", client="c", username="someone", password=SECRET)
    assert SECRET not in repr(held) and "someone" not in repr(held)
    assert SECRET not in repr(Credentials(token=SECRET)) + repr(Credentials(refresh=SECRET))
