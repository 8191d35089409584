"""What people type: one clear sentence for each mistake, and no secret anywhere it can be seen."""

import io
import json
import socket
import subprocess
import sys

import pytest

pytest.importorskip("uvicorn", reason="THE SERVICE IS NOT TESTED: its extra is not installed")

from certified import certified

from computation import cli
from service import asking, serving
from service.client.credentials import TOKEN
from service.place import Place

PASSWORD = "a long password of the tests"


def said(capsys, *arguments):
    status = cli.main([str(one) for one in arguments])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


@pytest.fixture
def piped(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))


def test_the_first_administrator_is_made_once_and_its_password_is_nowhere(tmp_path, capsys, piped, monkeypatch):
    status, text = said(capsys, "service", "admin", "root", "--data", tmp_path / "data")
    assert status == 0 and PASSWORD not in text
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    status, text = said(capsys, "service", "admin", "other", "--data", tmp_path / "data")
    assert status == 2 and "there is an administrator already" in text
    assert Place(tmp_path / "data").local().login("root", PASSWORD).principal.has("administrator")
    for path in (tmp_path / "data").rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir()


@pytest.mark.parametrize(("line", "told"), [("", "no password was given"), ("short\n", "too easily guessed")])
def test_a_password_that_is_none_is_refused(tmp_path, capsys, monkeypatch, line, told):
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    status, text = said(capsys, "service", "admin", "root", "--data", tmp_path / "data")
    assert status == 2 and told in text and "short" not in text


def test_a_password_is_no_argument(tmp_path, capsys):
    for option in ("--password", "--token"):
        with pytest.raises(SystemExit):
            cli.main(["service", "login", "root", "--credentials", str(tmp_path / "x"), option, PASSWORD])
        with pytest.raises(SystemExit):
            cli.main(["join", "https://centre", "--data", "x", "--output", "y", option, PASSWORD])


def test_two_passwords_that_differ_change_nothing(monkeypatch):
    typed = ["one password of mine", "another password"]
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setattr(asking.getpass, "getpass", lambda prompt: typed.pop(0))
    with pytest.raises(Exception, match="differ"):
        asking.asked("password", twice=True)


def test_a_sites_credentials_are_written_once_for_their_owner_alone(tmp_path, capsys):
    Place(tmp_path / "data").accounts()
    given = ("service", "site", "clinic", "--data", tmp_path / "data", "--credentials", tmp_path / "clinic.json")
    status, text = said(capsys, *given)
    held = json.loads((tmp_path / "clinic.json").read_text())
    assert status == 0 and held["token"] not in text and held["server"] == "http://127.0.0.1:8000"
    assert (tmp_path / "clinic.json").stat().st_mode & 0o777 == 0o600
    status, text = said(capsys, *given)
    assert status == 2 and "already" in text
    assert json.loads((tmp_path / "clinic.json").read_text()) == held
    local = Place(tmp_path / "data").local()
    assert local.verify(held["token"]).roles == {"site"}
    assert len(local.records.credentials(local.verify(held["token"]).sub)) == 1


def join(tmp_path, *more):
    (tmp_path / "site.db").touch()
    return "join", "http://127.0.0.1:1", "--data", tmp_path / "site.db", "--output", tmp_path / "out", *more


def test_no_account_is_made_where_no_service_is(tmp_path, capsys):
    """Typed in another folder, the command made a second service there, and credentials that nobody knows."""
    data = tmp_path / "not this one"
    for given in (("site", "clinic", "--credentials", tmp_path / "clinic.json"), ("demo", "--output", tmp_path)):
        status, text = said(capsys, "service", *given, "--data", data)
        assert status == 2 and "there is no service in that folder" in text
        assert f"service admin NAME --data '{data}'" in text
    assert list(tmp_path.iterdir()) == []


def test_commands_that_are_told_can_be_typed(tmp_path, capsys, piped):
    data = tmp_path / "our service"
    assert f"serve --data '{data}'" in said(capsys, "service", "admin", "root", "--data", data)[1]


@pytest.mark.parametrize(("url", "alone"), [("http://127.0.0.1:8000", True), ("https://centre.example", False)])
def test_credentials_for_this_machine_alone_are_said_to_be(tmp_path, capsys, url, alone):
    Place(tmp_path).accounts()
    given = ("--data", tmp_path, "--credentials", tmp_path / "clinic.json", "--url", url)
    status, text = said(capsys, "service", "site", "clinic", *given)
    assert status == 0 and ("--url" in text) is alone


def test_join_refuses_what_cannot_be_before_anything_is_sent(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    open_to_all = tmp_path / "token"
    open_to_all.write_text("mnc_planted")
    open_to_all.chmod(0o644)
    for given, told in (
        ((), "there are no credentials"),
        (("--credentials", open_to_all), "others can read the credentials"),
        (("--credentials", tmp_path / "missing"), "cannot be read"),
        (("--data", tmp_path / "missing.db"), "no scan database"),
    ):
        status, text = said(capsys, *join(tmp_path, *given))
        assert status == 2 and told in text and "planted" not in text
    status, text = said(capsys, "join", "http://centre.example", "--data", tmp_path / "site.db", "--output", tmp_path)
    assert status == 2 and "has no TLS" in text
    assert not (tmp_path / "out").exists()


def test_a_service_that_is_not_there_is_waited_for_as_long_as_was_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(TOKEN, "mnc_planted")
    status, text = said(capsys, *join(tmp_path, "--patience", "0.0001"))
    assert status == 2 and "cannot be reached" in text and "planted" not in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--host", "0.0.0.0"), "no TLS"),
        (("--host", "::"), "no TLS"),
        (("--host", "centre.example"), "no TLS"),
        (("--tls-certificate", "missing.pem"), "half of TLS"),
        (("--tls-certificate", "missing.pem", "--tls-key", "missing.pem"), "not there"),
    ],
)
def test_serve_refuses_an_address_at_which_passwords_could_be_read(tmp_path, capsys, given, told):
    status, text = said(capsys, "serve", "--data", tmp_path / "data", *given)
    assert status == 2 and told in text
    assert not (tmp_path / "data").exists()


def test_a_proxy_or_tls_opens_other_addresses(tmp_path):
    pem = certified(tmp_path)
    serving.Wanted(tmp_path, "0.0.0.0", proxy="10.0.0.1").check()
    serving.Wanted(tmp_path, "0.0.0.0", certificate=pem, key=pem).check()
    with pytest.raises(Exception, match="one of them"):
        serving.Wanted(tmp_path, "0.0.0.0", certificate=pem, key=pem, proxy="10.0.0.1").check()


def test_files_of_tls_that_do_not_fit_are_told_before_the_address_is(tmp_path, capsys):
    one, other = certified(tmp_path), certified(tmp_path, "127.0.0.2")
    closed = certified(tmp_path, "127.0.0.3", passphrase=b"secret")
    (tmp_path / "text").write_text("no pem")
    for key, why in ((other, "wanted both in PEM"), (tmp_path / "text", "wanted both in PEM"), (closed, "passphrase")):
        pair = ("--tls-certificate", closed if key is closed else one, "--tls-key", key)
        status, text = said(capsys, "serve", "--data", tmp_path / "data", "--port", "0", *pair)
        assert status == 2 and why in text and "https://" not in text, text


def test_a_proxy_by_its_name_is_refused_since_none_would_be_known_by_it(tmp_path, capsys):
    for name in ("localhost", "*"):
        status, text = said(capsys, "serve", "--data", tmp_path / "data", "--port", "0", "--behind-proxy", name)
        assert status == 2 and "from which the proxy connects" in text


def test_a_port_that_is_in_use_and_a_folder_that_is_served_already_are_told(tmp_path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        status, text = said(capsys, "serve", "--data", tmp_path / "data", "--port", other.getsockname()[1])
    assert status == 2 and "cannot be had" in text and "--port" in text
    with Place(tmp_path / "data").held():
        status, text = said(capsys, "serve", "--data", tmp_path / "data", "--port", "0")
    assert status == 2 and "another service is running" in text
    for port in ("-1", "65536", "http", "８０"):
        with pytest.raises(SystemExit):
            cli.main(["serve", "--port", port])


def test_a_data_folder_that_is_a_file_or_of_a_newer_version_is_told(tmp_path, capsys, piped):
    (tmp_path / "file").touch()
    status, text = said(capsys, "serve", "--data", tmp_path / "file", "--port", "0")
    assert status == 2 and "data folder" in text
    Place(tmp_path / "data").desk(Place(tmp_path / "data").bell())
    import sqlite3

    with sqlite3.connect(tmp_path / "data" / "service.sqlite") as base:
        base.execute("PRAGMA user_version = 99")
    status, text = said(capsys, "serve", "--data", tmp_path / "data", "--port", "0")
    assert status == 2 and "of version 99" in text


def test_a_missing_extra_is_one_sentence():
    code = """
import sys, importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("httpx", "uvicorn") else found(name, *more)
from computation import cli
sys.exit(cli.main(sys.argv[1:]))
"""
    for given in (["serve"], ["join", "https://x", "--data", "x", "--output", "y"]):
        done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, cwd="/tmp")
        assert done.returncode == 2 and "pip install 'coinstac-meshnet[service]'" in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_command_line_imports_nothing_of_the_extra():
    heavy = "('httpx', 'uvicorn', 'starlette', 'torch')"
    code = f"import sys; from computation import cli; cli._parser(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
