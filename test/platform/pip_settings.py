"""Copy this machine's pip settings into a root file system in which packages will be installed.

`python pip_settings.py TREE` writes TREE/etc/pip.conf with the index, the certificates and the folders of wheels that
pip uses here, and copies the certificates and the wheels themselves. An index that is a folder (a `file:` address) is
left out: it may be large, and a package that is only there belongs among the wheels.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
WHEELS = Path("opt/wheels")


def settings() -> dict[str, str]:
    """Return pip's settings as one flat mapping, such as `cert`; those of the environment win, as pip has it."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line]
    pairs.sort(key=lambda pair: pair[0].startswith(":env:"))
    return {key.rsplit(".", 1)[-1]: value.strip("'\"") for key, value in pairs}


def copy_wheels(folders: list[str], tree: Path) -> bool:
    """Copy every wheel of the local `folders`; return whether there was one."""
    wheels = [wheel for folder in folders if Path(folder).is_dir() for wheel in sorted(Path(folder).glob("*.whl"))]
    if wheels:
        (tree / WHEELS).mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        shutil.copy(wheel, tree / WHEELS)
    return bool(wheels)


def main(tree: Path) -> None:
    """Write `tree`/etc/pip.conf and what it refers to."""
    here = settings()
    lines = ["[global]", "disable-pip-version-check = true", "retries = 1"]
    certificates = Path(here.get("cert", f"/{CERTIFICATES}"))
    if certificates.is_file():
        (tree / CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(certificates, tree / CERTIFICATES)
        lines.append(f"cert = /{CERTIFICATES}")
    if not here.get("index-url", "file:").startswith("file:"):
        lines.append(f"index-url = {here['index-url']}")
    folders = here.get("find-links", "").split()
    if copy_wheels(folders, tree):
        lines.append(f"find-links = /{WHEELS}")
    (tree / "etc/pip.conf").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
