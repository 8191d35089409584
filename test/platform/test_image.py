"""The image as a site uses it on its own: every verb, shut in, as root and as a user that no system knows."""

import csv
import json
import os
import subprocess
import time

import nibabel as nib
import numpy as np
import pytest
from consortium import SHORT, spheres
from driving import PRODUCT, RUN

from computation.cli import main

pytestmark = [pytest.mark.docker_only, pytest.mark.timeout(240)]

SCANS = {"a": "train", "b": "train", "c": "valid", "d": "test"}
AFFINE = np.array([[0, 0, 2.0, -10], [-2.0, 0, 0, 30], [0, 2.0, 0, 5], [0, 0, 0, 1]])  # axes swapped, one reversed
SETTINGS = {**SHORT, "epochs": 1, "patch_size": [12, 12, 12]}
del SETTINGS["data"]
RESULTS = f"run/output/local0/{RUN}"

anybody = pytest.mark.parametrize("user", ["0:0", "23456:23456"], ids=["root", "anybody"])


def raw(folder):
    """Write a site's raw scans, their labels and the table that names them."""
    lines = ["subject,image,label,split"]
    for number, (name, split) in enumerate(SCANS.items()):
        image, label = spheres(24, np.random.default_rng(number), 3)
        nib.save(nib.Nifti1Image(image, AFFINE), folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(label, AFFINE), folder / f"{name}-label.nii.gz")
        lines.append(f"{name},{name}.nii.gz,{name}-label.nii.gz,{split}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def meshnet(folder, user, *words, scans="rw"):
    """Run one verb in a container of the image that may do as little as the documentation says; return what it said."""
    confined = ["--rm", "--read-only", "--tmpfs", "/tmp:size=64m", "--network", "none", "--user", user]
    command = ["docker", "run", *confined, "-v", f"{folder}:/mri:{scans}", "-w", "/mri", PRODUCT[1]]
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a function that gives a user's folder, with scans imported and a model trained by the image, made once."""
    made = {}

    def of(user):
        if user not in made:
            folder = tmp_path_factory.mktemp("mri")
            folder.chmod(0o777)
            raw(folder)
            words = ("table.csv", "--db", "site.db", "--spacing", "2", "--grid", "24", "--jobs", "1")
            meshnet(folder, user, "import", *words)
            settings = [f"--setting={name}={json.dumps(value)}" for name, value in SETTINGS.items()]
            meshnet(folder, user, "train", "site.db", "--output", "run", *settings)
            made[user] = folder
        return made[user]

    return of


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def labels(path):
    return np.asarray(nib.load(path).dataobj)


@anybody
def test_inspect(mode, site, user):
    assert "grey matter" in meshnet(site(user), user, "inspect", "site.db", scans="ro")


@anybody
def test_train(mode, site, user):
    folder = site(user)
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["rounds"] == 2 and (folder / RESULTS / "index.html").is_file()
    assert all(str(path.lstat().st_uid) == user.split(":")[0] for path in (folder / "run").rglob("*"))


@anybody
def test_predict(mode, site, user, tmp_path):
    """In the scan's own space, with the volumes and a figure, and as this machine predicts without the image."""
    folder = site(user)
    meshnet(folder, user, "predict", RESULTS, "d.nii.gz", "--output", "predictions")
    out = folder / "predictions"
    seen = nib.load(out / "d_dseg.nii.gz")
    assert seen.shape == (24, 24, 24) and np.allclose(seen.affine, AFFINE)
    assert (out / "d_dseg.png").read_bytes().startswith(b"\x89PNG")
    found = {row["name"]: int(row["voxels"]) for row in table(out / "volumes.csv")}
    assert found["grey matter"] == np.sum(labels(out / "d_dseg.nii.gz") == 2)
    words = [folder / RESULTS, folder / "d.nii.gz", "--output", tmp_path, "--no-figure"]
    assert main(["predict", *map(str, words)]) == 0
    # Scores that are nearly equal may fall to the other side with another number of threads.
    assert np.mean(labels(tmp_path / "d_dseg.nii.gz") == labels(out / "d_dseg.nii.gz")) > 0.999


@anybody
def test_evaluate(mode, site, user, tmp_path):
    folder = site(user)
    assert "foreground mean" in meshnet(folder, user, "evaluate", RESULTS, "site.db", "--csv", "scores.csv")
    main(["evaluate", str(folder / RESULTS), str(folder / "site.db"), "--csv", str(tmp_path / "scores.csv")])
    there, here = ([float(row["dice"]) for row in table(place / "scores.csv")] for place in (folder, tmp_path))
    assert len(there) == 3 and there == pytest.approx(here, abs=1e-3)


@anybody
def test_export(mode, site, user):
    folder = site(user)
    said = meshnet(folder, user, "export", RESULTS, "--onnx", "model.onnx", "--brainchop", "web")
    assert "ONNX Runtime's scores differ by" in said
    assert (folder / "model.onnx").is_file() and (folder / "web" / "model.json").is_file()


@pytest.fixture
def served(tmp_path):
    """Return a function that serves with folders mounted as by COINSTAC, and tells as whom: uid, gid, capabilities."""
    started = []

    def of(output=0, transfer=None, hidden=False, user=()):
        transfer = output if transfer is None else transfer
        mounts = []
        for kind, owner, how in (("input", output, "ro"), ("output", output, "rw"), ("transfer", transfer, "rw")):
            folder = tmp_path / kind / "local0"
            (folder / RUN).mkdir(parents=True)
            (folder / RUN / "site.db").touch()
            for path in (folder, folder / RUN, folder / RUN / "site.db"):
                os.chown(path, owner, owner)
            mounts += ["-v", f"{folder}:/{kind}/local0:{how}"]
        if hidden:
            os.chown(tmp_path / "input" / "local0" / RUN / "site.db", 0, 0)
            (tmp_path / "input" / "local0" / RUN / "site.db").chmod(0o600)
        command = ["docker", "run", "-d", "--network", "none", *user, *mounts, PRODUCT[1]]
        started.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        return who(started[-1])

    yield of
    for name in started:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=True)


def who(container):
    """Return uid, gid and effective capabilities of the container's first process, once that is the server."""
    read = ["docker", "exec", container, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; cat /proc/1/status"]
    for _ in range(100):
        said = subprocess.run(read, capture_output=True, text=True, timeout=60, check=True).stdout
        if said.startswith("/opt/venv/bin/python /opt/application/computation/entry.py"):
            facts = dict(line.split(":", 1) for line in said.splitlines()[1:] if ":" in line)
            return int(facts["Uid"].split()[1]), int(facts["Gid"].split()[1]), int(facts["CapEff"], 16)
        time.sleep(0.1)
    raise AssertionError(said)


def test_under_coinstac_it_becomes_the_owner_of_the_folders(mode, served):
    assert served(output=23456) == (23456, 23456, 0)


@pytest.mark.parametrize("case", [{}, {"output": 23456, "transfer": 23457}, {"output": 23456, "hidden": True}], ids=str)
def test_it_stays_root_where_no_other_user_could_do_it_all(mode, served, case):
    uid, _, capabilities = served(**case)
    assert uid == 0 and capabilities


def test_a_user_that_was_named_stays(mode, served):
    assert served(output=23456, user=("--user", "34567:34567")) == (34567, 34567, 0)


def test_what_leaves_the_machine_is_said_to_be_nothing(mode):
    """ONNX Runtime tells its maker of every use unless this is set."""
    command = ["docker", "run", "--rm", "--network", "none", PRODUCT[1], "python", "-c"]
    code = "import onnxruntime, os; print(os.path.exists('/tmp/cache/Microsoft'))"
    assert subprocess.run([*command, code], capture_output=True, text=True, timeout=60).stdout == "False\n"


@anybody
@pytest.mark.parametrize("part", ["provision", "central", "edge"])
def test_neuroflames_scripts_start(mode, tmp_path, part, user):
    said = meshnet(tmp_path, user, "python", f"/workspace/system/entry_{part}.py", "--help")
    assert said.startswith(f"usage: entry_{part}.py")
