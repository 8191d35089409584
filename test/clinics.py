"""A site's own machine: a folder with scans, a database and what a run has left, and the pages about it."""

import shutil
import time

import nibabel as nib
import numpy as np
from carriage import Carriage
from consortium import database, spheres
from houses import SOUND, cheap
from offices import Browser, fields_of

from service.client.layout import LENT, RESULTS
from service.clock import now
from service.identity.local import Local
from service.identity.records import Records
from service.site.root import Root
from service.site.work import Work
from service.web import site
from service.web.app import pages_alone
from service.web.dashboard import Front

#: A text that stands in what no page of a site may show, and no log.
SECRET = "sesame-0pen"
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def head(seed, side=16):
    return spheres(side, np.random.default_rng(seed), 3)


def scan(path, seed=0):
    """Write an image and its label; return their names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, label = head(seed)
    names = [f"{path.name}-{kind}.nii.gz" for kind in ("t1", "seg")]
    for name, voxels in zip(names, (image, label), strict=True):
        nib.save(nib.Nifti1Image(voxels, AFFINE), path.with_name(name))
    return names


def table(folder, count=4, name="table.csv"):
    """Write scans and the table that lists them."""
    lines = ["subject,image,label"]
    for index in range(count):
        lines.append(",".join([f"person-{index}", *scan(folder / f"{index}", index)]))
    (folder / name).write_text("\n".join(lines), "utf-8")
    return folder / name


def bids(folder, people=2):
    """Write a BIDS dataset with its labels."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    for number in range(people):
        image, label = head(number)
        for place, end, voxels in (("", "T1w", image), ("derivatives/manual/", "dseg", label)):
            path = folder / f"{place}sub-{number}/anat/sub-{number}_{end}.nii.gz"
            path.parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(voxels, AFFINE), path)
    return folder


def freesurfer(folder, people=2):
    """Write a SUBJECTS_DIR."""
    for number in range(people):
        image, label = head(number)
        (folder / f"bert-{number}" / "mri").mkdir(parents=True)
        for name, voxels in (("T1", image.astype(np.int16)), ("aseg", label)):
            nib.save(nib.MGHImage(voxels, AFFINE), folder / f"bert-{number}" / "mri" / f"{name}.mgz")
    return folder


def left(folder, spare, data):
    """Let a run of two sites leave at one of them what it leaves, in the folders of `join`; return the database."""
    carriage = Carriage(spare)
    carriage.run()
    carriage.close()
    shutil.copytree(spare / "run" / "a site" / "output", folder / RESULTS)
    shutil.copy2(carriage.made["a site"], data)
    (folder / LENT).parent.mkdir(parents=True)
    (folder / LENT).symlink_to(data.resolve())
    return data


class Clinic:
    """The pages about one folder, and browsers that look at them."""

    def __init__(self, folder):
        self.folder, self.root = folder, folder / "root"
        self.root.mkdir(parents=True)
        self.outside = folder / "outside"
        table(self.outside, 1, f"{SECRET}.csv")
        database(self.outside / f"{SECRET}.db")
        (folder / "data").mkdir()
        self.open()
        self.local.accounts.first_administrator("ada", SOUND)
        for name, role in (("north", "site"), ("vera", "viewer")):
            self.local.accounts.add(name, {role}, SOUND)

    def open(self):
        """Begin to serve, as after a restart."""
        self.local = Local(Records(self.folder / "data" / "identity.sqlite"), now, cheap())
        self.work = Work(Root.of(self.root), self.folder / "data" / "order.json")
        self.front = Front(None, self.local, tabs=site.tabs, roles=site.ROLES)
        self.app = pages_alone(site.routes(self.front, self.work))

    def close(self):
        with self.work:
            pass
        self.local.records.close()

    def browser(self, name="north", **headers):
        made = Browser(self.app, headers)
        return made.login(name) if name else made

    def begin(self, browser, at, page=None, **fields):
        """Send the form of an import with what its page holds, and the given fields instead."""
        held = fields_of(browser.get(f"/import?at={at}").text)
        held.pop("verb", None)
        return browser.client.post(f"/import?at={at}", data={**held, **fields})

    def wait(self, state="done", seconds=60.0):
        """Wait until nothing is under way any more."""
        until = time.monotonic() + seconds
        while self.work.state.state == "running" and time.monotonic() < until:
            time.sleep(0.02)
        found = self.work.state
        assert found.state == state, found
        return found
