"""The lock file as a bill of materials in CycloneDX 1.6, for those who must know what they run.

A pure function of lock.txt and pyproject.toml: no time, no machine, so that a test can hold it against them.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

from locked import HERE, Pin

__all__ = ["SBOM", "bill", "encoded"]

SBOM = HERE / "sbom.cdx.json"


def bill(pins: Sequence[Pin], version: str) -> dict[str, Any]:
    """Return the bill: a component for each pin, and who asks for whom.

    Parameters
    ----------
    pins : sequence of Pin
        Everything in the lock file.
    version : str
        Of this software.
    """
    root = _reference("coinstac-meshnet", version)
    known = {pin.name: [] for pin in pins} | {"coinstac-meshnet": []}
    for pin in pins:
        for name in pin.via:
            known.setdefault(name, []).append(_reference(pin.name, pin.version))
    owners = [(root, "coinstac-meshnet"), *((_reference(pin.name, pin.version), pin.name) for pin in pins)]
    content = hashlib.sha256(repr((version, pins)).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "coinstac-meshnet",
                "version": version,
                "licenses": [{"license": {"id": "MIT"}}],
            }
        },
        "components": [_component(pin) for pin in pins],
        "dependencies": [{"ref": ref, "dependsOn": sorted(set(known[name]))} for ref, name in owners],
    }


def _reference(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version.replace('+', '%2B')}"


def _component(pin: Pin) -> dict[str, Any]:
    properties = [{"name": "coinstac-meshnet:for", "value": ", ".join(pin.groups)}]
    if pin.marker:
        properties.append({"name": "coinstac-meshnet:marker", "value": pin.marker})
    # Any of these files may be the one that is installed, which a component's own `hashes` cannot say.
    hashes = [{"alg": "SHA-256", "content": value} for value in pin.hashes]
    reference = _reference(pin.name, pin.version)
    return {
        "type": "library",
        "bom-ref": reference,
        "name": pin.name,
        "version": pin.version,
        "scope": "required" if "base" in pin.groups else "optional",
        "purl": reference,
        "externalReferences": [{"type": "distribution", "url": reference, "hashes": hashes}],
        "properties": properties,
    }


def encoded(value: dict[str, Any]) -> str:
    """Return the bill as the text of its file."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
