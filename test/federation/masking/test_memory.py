"""The centre's memory and disk, searched for what a single site computed."""

import mmap
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from consortium import SHORT, database

from simulator import embedded
from simulator.layout import CENTRE, RUN, Layout
from simulator.observer import Observer

HERE = Path(__file__).parent
SITES = ("local0", "local1", "local2")


def regions(pid):
    """Yield the writable memory of a process, region by region."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                memory.seek(start)
                try:
                    yield written(memory.read(end - start))
                except OSError:
                    continue


def written(content):
    """Return a region without its pages of nothing but zeros, most of it, in which no part of a secret is."""
    pages = np.frombuffer(content, np.uint64).reshape(-1, mmap.PAGESIZE // 8)
    return pages[pages.any(axis=1)].tobytes()


def files(*folders):
    return [path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()]


class Search(Observer):
    def __init__(self, layout):
        self.layout, self.found, self.masked, self.looked = layout, {}, 0, 0

    def secrets(self):
        """Return eight values out of the middle of all that sites wrote down, by what they are."""
        return {
            f"{site} {path.name}": path.read_bytes()[4000:4064]
            for site in SITES
            for path in self.layout.output(site).glob("*.secret")
        }

    def on_cycle(self, cycle, output):
        if not 4 <= cycle.iteration <= 7:
            return
        self.looked += 1
        known = self.secrets()
        known["the combination"] = Path(self.layout.base("local0"), "__cx_combination.bin").read_bytes()[4000:4064]
        pid = int((self.layout.output(CENTRE) / "pid").read_text())
        for content in [*regions(pid), *files(self.layout.base(CENTRE), self.layout.output(CENTRE))]:
            for name, secret in known.items():
                if secret in content:
                    self.found.setdefault(name, []).append(cycle.iteration)


@pytest.mark.skipif(sys.platform != "linux", reason="reads another process's memory from /proc")
def test_neither_the_centres_memory_nor_its_disk_holds_what_a_single_site_computed(tmp_path):
    made = database(tmp_path / "made.db", scans=(2, 0, 0))
    for site in SITES:
        place = tmp_path / "input" / site / RUN
        place.mkdir(parents=True)
        shutil.copy(made, place / "site.db")
    search = Search(Layout((tmp_path / "run").resolve()))
    settings = {**SHORT, "secure_aggregation": True, "min_scans": 1}
    embedded.run(
        {name: {"value": value} for name, value in settings.items()},
        sites=len(SITES),
        inputs=tmp_path / "input",
        output=tmp_path / "run",
        command=(sys.executable, str(HERE / "recording.py")),
        observer=search,
    )
    assert search.looked == 4 and len(search.secrets()) == 2 * len(SITES) * 4
    assert set(search.found) == {"the combination"}, "it is the sum that the centre knows, and nothing else"
