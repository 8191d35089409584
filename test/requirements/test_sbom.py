"""The bill of materials is the lock file's, part by part."""

import json
import re

from locked import HERE, LOCK, parse
from sbom import SBOM, bill, encoded

PINS = parse(LOCK.read_text(encoding="utf-8"))
VERSION = re.search(r'^version = "(.+)"$', (HERE.parent / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]
BILL = json.loads(SBOM.read_text(encoding="utf-8"))


def test_the_committed_bill_is_the_lock_files():
    assert SBOM.read_text(encoding="utf-8") == encoded(bill(PINS, VERSION))


def test_every_pin_is_a_component_with_its_hashes():
    assert (BILL["bomFormat"], BILL["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["purl"]: part for part in BILL["components"]}
    assert len(parts) == len(BILL["components"]) == len(PINS)
    for pin in PINS:
        part = parts[f"pkg:pypi/{pin.name}@{pin.version}"]
        assert (part["name"], part["version"]) == (pin.name, pin.version)
        assert part["scope"] == ("required" if "base" in pin.groups else "optional")
        (files,) = part["externalReferences"]
        assert [entry["content"] for entry in files["hashes"]] == list(pin.hashes)


def test_who_asks_for_whom_is_closed_and_reaches_everything():
    graph = {entry["ref"]: set(entry["dependsOn"]) for entry in BILL["dependencies"]}
    known = {part["bom-ref"] for part in BILL["components"]} | {BILL["metadata"]["component"]["bom-ref"]}
    assert graph.keys() == known and set().union(*graph.values()) <= known
    reached, edge = set(), {BILL["metadata"]["component"]["bom-ref"]}
    while edge:
        reached |= edge
        edge = set().union(*(graph[ref] for ref in edge)) - reached
    assert reached == known


def test_it_says_nothing_of_the_machine_that_made_it():
    text = SBOM.read_text(encoding="utf-8") + LOCK.read_text(encoding="utf-8")
    assert not re.search(r"file:|/home/|/tmp/|/work/|/opt/|https?://(?!cyclonedx)", text)
