"""A key file: made once, for its owner alone, and never taken for one when it is something else."""

import os
import subprocess
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from computation.errors import SettingsError
from computation.federation import keys


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_a_run_makes_its_own_and_finds_it_again(tmp_path):
    first = keys.own(tmp_path / "checkpoints", {})
    assert keys.own(tmp_path / "checkpoints", {}).public == first.public
    assert (tmp_path / "checkpoints" / keys.FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [keys.FILE]
    assert keys.own(tmp_path / "others", {}).public != first.public


def test_a_named_file_serves_many_runs(tmp_path):
    environment = {keys.VARIABLE: str(tmp_path / "hospital.pem")}
    first = keys.own(tmp_path / "one", environment)
    assert keys.own(tmp_path / "two", environment).public == first.public
    assert (tmp_path / "hospital.pem").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "one").exists()


def test_a_named_file_may_be_reached_through_a_link_as_secrets_are_mounted(tmp_path):
    keys.made(tmp_path / "secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert keys.own(tmp_path, {keys.VARIABLE: str(tmp_path / "link")}).public == keys.load(tmp_path / "secret").public


def test_the_file_is_that_of_openssl(tmp_path):
    path = tmp_path / "key.pem"
    try:
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
        told = subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl with Ed25519 here")
    path.chmod(0o600)
    assert keys.load(path).public == told.stdout[-32:].hex()


def test_two_processes_that_begin_at_once_have_one_key(tmp_path):
    found = []
    environment = {keys.VARIABLE: str(tmp_path / "key.pem")}
    threads = [threading.Thread(target=lambda: found.append(keys.own(tmp_path, environment).public)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"\xff" * 5000,
        pem(x25519.X25519PrivateKey.generate()),
        pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        pem(ed25519.Ed25519PrivateKey.generate())[:-40],
    ],
    ids=["empty", "text", "bytes", "of another kind", "with a password", "truncated"],
)
def test_a_file_that_holds_no_key_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="holds no private Ed25519 key") as caught:
        keys.own(tmp_path, {keys.VARIABLE: str(path)})
    assert str(tmp_path) not in caught.value.public and path.read_bytes() == content


def test_a_named_file_that_others_may_read_is_refused(tmp_path):
    keys.made(tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(SettingsError, match="give it mode 600"):
        keys.own(tmp_path, {keys.VARIABLE: str(tmp_path / "key.pem")})


@pytest.mark.parametrize("name", ["nowhere/key.pem", "folder", "pipe"])
def test_a_place_where_no_file_can_be_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SettingsError, match=f"key file of {keys.VARIABLE} cannot be read or made"):
        keys.own(tmp_path, {keys.VARIABLE: str(tmp_path / name)})
