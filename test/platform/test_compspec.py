"""compspec.json passes COINSTAC's own registration rules and our schema of what the app and vaults can do with it."""

import copy
import json
import subprocess

import pytest
from driving import HERE, MODULES, ROOT

COMPSPEC = json.loads((ROOT / "compspec.json").read_text())


def breaches(compspec, folder):
    path = folder / "compspec.json"
    path.write_text(json.dumps(compspec))
    command = ["node", HERE / "driver" / "check_compspec.js", MODULES, HERE / "compspec.schema.json", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout.splitlines()


def test_the_compspec_is_sound(tmp_path):
    assert breaches(COMPSPEC, tmp_path) == []


def at(path, value):
    """Return a change that sets, or with `...` deletes, what stands at `path`."""

    def change(spec):
        *way, last = path.split("/")
        for key in way:
            spec = spec[key]
        if value is ...:
            del spec[last]
        else:
            spec[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "by"),
    [
        (at("computation/containerOptions", {}), "registration"),
        (at("computation/display", ...), "registration"),
        (at("meta/version", ""), "registration"),
        (at("display", []), "registration"),
        (at("meta/author", "someone"), "schema"),
        (at("meta/compspecVersion", 1), "schema"),
        (at("computation/dockerImage", "coinstacteam/coinstac-meshnet:1"), "schema"),
        (at("computation/dockerImage", "meshnet"), "schema"),
        (at("computation/display", [{"type": "html"}]), "schema"),
        (at("computation/input/epochs/tooltip", ...), "schema"),
        (at("computation/input/epochs/order", ...), "schema"),
        (at("computation/input/model/source", "member"), "schema"),
        (at("computation/input/model/values", [0, "a"]), "schema"),
        (at("computation/input/data/extensions", [["db"]]), "schema"),
        (at("computation/input/data/items", []), "schema"),
        (at("computation/input/data/default", ...), "schema"),
        (at("computation/input/data_csv/default", []), "schema"),
        (at("computation/input/device/default", {}), "schema"),
    ],
)
def test_a_broken_compspec_is_refused(tmp_path, change, by):
    spec = copy.deepcopy(COMPSPEC)
    change(spec)
    found = set(breaches(spec, tmp_path)) - set(breaches(COMPSPEC, tmp_path))
    assert any(line.startswith(by) for line in found), found
