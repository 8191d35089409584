"""The zip: what is in it, that it is small and always the same, and that a bare Python of its version can import it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("packaging", reason="the zip's tests need `packaging`")
from infrastructure import package
from infrastructure.package import LOCK, MOST, Pin, build, parse, wanted

_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
#: What a cold Lambda does first: import everything, make its clients, answer; without a word from PyTorch.
_COLD = """
import sys
sys.path.insert(0, sys.argv[1])
import service.aws
for path in ("/healthz", "/login"):
    asked = {"http": {"method": "GET", "path": path, "sourceIp": "192.0.2.1"}, "stage": "$default"}
    event = {"version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {}, "requestContext": asked}
    answer = service.aws.api(event, None)
    assert answer["statusCode"] == 200, answer
assert "torch" not in sys.modules and "scipy" not in sys.modules
"""
_NAMES = ("TABLE", "BUCKET", "QUEUE", "ISSUER", "CLIENT", "KEYS", "PAGES", "DOOR", "ADDRESS")


def _pin(name, via=(), marker="", version="1"):
    return Pin(name, version, marker, ("0" * 64,), (), via)


def _imported():
    return [_pin(name) for name in package._IMPORTED]


def test_what_is_imported_brings_what_it_needs_and_nothing_else():
    pins = [*_imported(), _pin("anyio", ("starlette",)), _pin("idna", ("anyio",)), _pin("torch", ("somebody",))]
    names = {pin.name for pin in wanted(pins, "3.13", "x86_64")}
    assert names == {*package._IMPORTED, "anyio", "idna"}


def test_markers_are_those_of_the_functions_python_and_not_of_this_one():
    older, newer = "python_full_version < '3.11'", "python_full_version >= '3.11'"
    others = [pin for pin in _imported() if pin.name != "numpy"]
    pins = [*others, _pin("numpy", marker=older, version="1"), _pin("numpy", marker=newer, version="2")]
    for python, version in (("3.10", "1"), ("3.13", "2")):
        assert [pin.version for pin in wanted(pins, python, "x86_64") if pin.name == "numpy"] == [version]
    windows = _pin("colorama", ("starlette",), "sys_platform == 'win32'")
    assert "colorama" not in {pin.name for pin in wanted([*_imported(), windows], "3.13", "x86_64")}


def test_a_lock_file_that_lacks_something_is_told():
    with pytest.raises(SystemExit, match="no mangum; make it anew"):
        wanted([pin for pin in _imported() if pin.name != "mangum"], "3.13", "x86_64")


def test_equal_files_make_equal_archives(tmp_path):
    for name in ("one", "two"):
        for file in ("b.py", "a.py") if name == "one" else ("a.py", "b.py"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / file).write_text(file)
        package._zip(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    if not any(pin.name == "mangum" for pin in parse(LOCK.read_text())):
        pytest.skip("THE ZIP IS NOT TESTED: the lock file knows nothing of the extra aws")
    path = tmp_path_factory.mktemp("package") / "api.zip"
    build(path, _HERE, "x86_64")
    return path


@pytest.mark.slow
def test_there_is_no_test_and_no_torch_in_it_and_it_is_small(archive):
    names = zipfile.ZipFile(archive).namelist()
    assert archive.stat().st_size < MOST
    folders = {part for name in names for part in Path(name).parts[:-1]}
    assert not folders & {"test", "tests", "torch", "scipy", "infrastructure"}
    assert not [name for name in names if name.endswith((".key", ".env", ".tfvars", ".sqlite", ".db", ".nii.gz"))]
    assert {"service/__init__.py", "computation/wire/payload.py", "botocore/data/endpoints.json"} <= set(names)


@pytest.mark.slow
def test_a_bare_python_answers_from_it(archive, tmp_path):
    zipfile.ZipFile(archive).extractall(tmp_path)
    # -I and -S: neither this environment's packages nor the repository are found, as on a Lambda.
    environment = {
        **{f"MESHNET_{name}": "http://127.0.0.1:9/x" if name != "BUCKET" else "bucket" for name in _NAMES},
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    words = [sys.executable, "-I", "-S", "-c", _COLD, str(tmp_path)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
