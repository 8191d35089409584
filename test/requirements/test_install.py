"""Installing takes the locked file or nothing: tried with real wheels and the real pip, without a network."""

import base64
import hashlib
import re
import subprocess
import sys
import zipfile

import install
import pytest
from locked import HERE, Pin


def wheel(folder, name, version, requires=()):
    """Write a pure wheel; return the pin that locks it."""
    stem, inside = f"{name}-{version}", f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{inside}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{inside}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {at: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for at, text in files.items()}
    lines = [f"{at},sha256={value.decode().rstrip('=')},{len(files[at])}" for at, value in digests.items()]
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for at, text in files.items():
            archive.writestr(at, text)
        archive.writestr(f"{inside}/RECORD", "\n".join([*lines, f"{inside}/RECORD,,", ""]))
    return Pin(name, version.partition("+")[0], hashes=(hashlib.sha256(path.read_bytes()).hexdigest(),))


@pytest.fixture
def empty(tmp_path_factory):
    """A Python environment without anything in it."""
    folder = tmp_path_factory.mktemp("environment") / "with a blank"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python")


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of wheels, the only place where pip looks."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tmp_path


def version_of(python, name):
    return subprocess.run(
        [python, "-c", f"import {name}; print({name}.version)"], capture_output=True, text=True
    ).stdout


def test_the_locked_file_is_installed_and_nothing_that_it_asks_for(shelf, empty):
    pin = wheel(shelf, "wanted", "1.0", requires=["unwanted"])
    wheel(shelf, "unwanted", "4.0")
    install.pip(empty, [pin])
    assert version_of(empty, "wanted") == "1.0\n" and version_of(empty, "unwanted") == ""


def test_another_file_of_the_same_version_is_refused(shelf, empty, capfd):
    pin = wheel(shelf, "swapped", "1.0")
    wheel(shelf, "swapped", "1.0", requires=["evil"])
    with pytest.raises(SystemExit) as ended:
        install.pip(empty, [pin])
    assert ended.value.code == 1 and "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert version_of(empty, "swapped") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's are CPU builds")
def test_a_cpu_build_goes_before_pypis(shelf, empty):
    pin = wheel(shelf, "torch", "1.0+cpu")
    wheel(shelf, "torch", "1.0")
    assert install.took_cpu_build(empty, [pin])
    assert version_of(empty, "torch") == "1.0+cpu\n"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's are CPU builds")
def test_a_cpu_build_that_is_not_the_locked_one_ends_it(shelf, empty):
    wheel(shelf, "torch", "2.0+cpu")
    with pytest.raises(SystemExit, match="DO NOT MATCH THE HASHES"):
        install.took_cpu_build(empty, [Pin("torch", "2.0", hashes=("0" * 64,))])
    assert not install.took_cpu_build(empty, [Pin("torch", "3.0", hashes=("0" * 64,))])


def test_what_is_missing_is_named_but_for_the_one_left_out(shelf, empty):
    install.pip(empty, [wheel(shelf, "asker", "1.0", requires=["asyncio"])])
    checked = [wheel(shelf, "halved", "1.0", requires=["absent>=2"])]
    script = "import install, sys; install.check(sys.argv[1])"

    def said():
        command = [sys.executable, "-c", script, empty]
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)

    assert said().returncode == 0
    install.pip(empty, checked)
    wrong = said()
    assert wrong.returncode == 1 and "halved 1.0 requires absent, which is not installed." in wrong.stderr


def test_an_unknown_extra_is_refused():
    with pytest.raises(SystemExit, match="knows nothing of wand"):
        install.main(["--extras", "demo,wand"])


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile", ".ci/run", "test/platform/run.sh"])
def test_nothing_is_installed_past_the_lock(name):
    """A `pip install` may only add this package itself; everything else goes through install.py."""
    text = (HERE.parent / name).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if "pip" in line and " install " in line and not line.lstrip().startswith("#"):
            assert {"--no-deps", "--no-build-isolation"} <= set(line.split()), line


def test_the_image_is_made_of_every_package():
    project = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.findall(r'"(\w+)\*"', re.search(r"^include = \[(.*)\]$", project, re.M)[1])
    sent = (HERE.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert len(packages) > 4
    assert [name for name in packages if f"!{name}/" not in sent] == []
