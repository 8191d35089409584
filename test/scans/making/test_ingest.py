"""From a table of files to a database, with every row accounted for."""

import gzip
import hashlib
import json
import sqlite3

import nibabel as nib
import numpy as np
import pytest

from computation.errors import ImportScanError
from computation.scans.making import images, sources
from computation.scans.making.ingest import import_table
from computation.scans.making.split import Fractions
from computation.scans.store.opening import open_store

SMALL = {"spacing": 2.0, "grid": 24}


def test_a_table_becomes_a_database(tools):
    folder = tools.folder()
    seen = []
    table = tools.table(folder, 10)
    summary = import_table(table, folder / "site.db", **SMALL, progress=lambda *given: seen.append(given))
    assert summary.counts == {"train": 7, "valid": 2, "test": 1}
    assert not summary.left_out and all(scan.cut == 0 for scan in summary.taken)
    assert seen == [(index + 1, 10, f"p{index}") for index in range(10)]
    with open_store(folder / "site.db") as store:
        assert store.label_names == tools.names
        for index, scan in enumerate(store.scans()):
            store.verify(scan)
            assert (scan.subject, scan.shape, scan.spacing, scan.dtype) == (f"p{index}", (24,) * 3, (2,) * 3, "uint8")
            assert scan.native.shape == (20, 18, 22) and scan.native.affine[0][0] == 2
            image, label = store.read(scan, (0, 0, 0), scan.shape)
            wanted = tools.head(seed=index)[1]
            assert (label[2:22, 3:21, 1:23] == wanted).all() and np.count_nonzero(label) == np.count_nonzero(wanted)
            assert image.min() == 0 and image.max() == 1


def test_the_same_table_gives_the_same_bytes(tools):
    folder = tools.folder()
    table = tools.table(folder)
    for name in ("a.db", "b.db"):
        import_table(table, folder / name, **SMALL, seed=3)
    assert (folder / "a.db").read_bytes() == (folder / "b.db").read_bytes()


def test_provenance_holds_versions_parameters_and_checksums_but_no_path(tools):
    folder = tools.folder()
    import_table(tools.table(folder), folder / "site.db", **SMALL, seed=5)
    with open_store(folder / "site.db") as store:
        provenance = store.meta["provenance"]
        assert {"coinstac-meshnet", "nibabel", "numpy", "python", "scipy", "sqlite", "zstandard"} == set(
            provenance["versions"]
        )
        assert provenance["parameters"]["target"] == {"spacing": [2.0] * 3, "grid": [24] * 3, "like": "ras"}
        assert store.meta["split"] == {"by": "subject", "fractions": [0.7, 0.2, 0.1], "seed": 5}
    source = json.loads(sqlite3.connect(folder / "site.db").execute("SELECT source FROM scans").fetchone()[0])
    assert source["image"] == hashlib.sha256((folder / "0_t1.nii.gz").read_bytes()).hexdigest()
    assert folder.name.encode() not in (folder / "site.db").read_bytes()


def test_a_split_column_is_obeyed(tools):
    folder = tools.folder()
    table = tools.table(folder, split=["test", "train", "valid", "train"])
    assert import_table(table, folder / "site.db", **SMALL).counts == {"train": 2, "valid": 1, "test": 1}


def test_rows_of_one_site_only(tools):
    folder = tools.folder()
    table = tools.table(folder, site=["a", "b", "b", "a"])
    summary = import_table(table, folder / "site.db", **SMALL, where={"site": "b"})
    assert [scan.subject for scan in summary.taken] == ["p1", "p2"]


def test_two_sessions_of_one_person_stay_together(tools):
    folder = tools.folder()
    table = tools.table(folder, 6, session=["1"] * 6)
    lines = table.read_text("utf-8").splitlines()
    pairs = [lines[0], *(f"person{index // 2}" + line[2:-1] + str(index) for index, line in enumerate(lines[1:]))]
    table.write_text("\n".join(pairs), "utf-8")
    import_table(table, folder / "site.db", **SMALL, fractions=Fractions(0.5, 0.3, 0.2))
    with open_store(folder / "site.db") as store:
        parts = {}
        for scan in store.scans():
            assert parts.setdefault(scan.subject, scan.split) == scan.split
        assert len(store.scans()) == 6 and len(parts) == 3


def test_tsv_byte_order_mark_blanks_and_non_ascii_paths(tools):
    folder = tools.folder()
    image, label = tools.head()
    tools.nifti(folder / "Größe 'x'.nii", image.astype(np.float32))
    tools.nifti(folder / "labels, all.nii.gz", label)
    text = "subject\timage\tlabel\nä\tGröße 'x'.nii\tlabels, all.nii.gz\n"
    (folder / "table.tsv").write_text("\ufeff" + text, "utf-8")
    assert import_table(folder / "table.tsv", folder / "site.db", spacing=None, grid=None).taken[0].subject == "ä"


class TestTable:
    """Whatever a spreadsheet makes of a table, no row and no label is lost without a word."""

    def changed(self, tools, old, new):
        folder = tools.folder()
        path = tools.table(folder, 3)
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8", newline="")
        return path

    def listed(self, path):
        return [(row.subject, row.label.name if row.label else None) for row in sources.table(path, {}).rows]

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("\n", "\n,,\n"),
            ("\n", "\n  \n"),
            ("\n", "\r\n"),
            ("\n", "\r"),
            ("subject,", "\n\nsubject,"),
            (".nii.gz\n", ".nii.gz,,\n"),
            ("label\n", "label,,\n"),
            ("p1,", ' "p1", '),
        ],
    )
    def test_blank_rows_cells_and_line_ends_do_no_harm(self, tools, old, new):
        wanted = [(f"p{index}", f"{index}_seg.nii.gz") for index in range(3)]
        assert self.listed(self.changed(tools, old, new)) == wanted

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("1_t1.nii.gz,1_seg", "1_t1.nii.gz,,1_seg", "a row of the table has 4 cells for 3 columns"),
            ("image,label", "image,label,label", "more than one column label"),
            ("p1,1_t1", 'p1,"1_t1', "the table cannot be read"),
            ("1_t1", "1\0t1", "a path in the table holds a character of value 0|the table cannot be read"),
            ("1_t1", "1" * 200_000, "the table cannot be read"),
        ],
    )
    def test_what_would_lose_a_row_or_a_label_is_refused(self, tools, old, new, message):
        with pytest.raises(ImportScanError, match=message):
            self.listed(self.changed(tools, old, new))

    def test_a_line_separator_inside_a_cell_ends_no_row(self, tools):
        assert self.listed(self.changed(tools, "p1,", "p\u2028one,"))[1] == ("p\u2028one", "1_seg.nii.gz")


@pytest.mark.parametrize("name", ["scan.mgz", "scan.nii", "scan.img"])
def test_other_formats(tools, name):
    folder = tools.folder()
    image, label = tools.head()
    kind = {"scan.mgz": nib.MGHImage, "scan.nii": nib.Nifti2Image, "scan.img": nib.Spm99AnalyzeImage}[name]
    nib.save(kind(image.astype(np.int16), np.eye(4)), folder / name)
    nib.save(kind(label.astype(np.int16), np.eye(4)), folder / f"label-{name}")
    (folder / "t.csv").write_text(f"subject,image,label\na,{name},label-{name}\n")
    assert import_table(folder / "t.csv", folder / "site.db", spacing=1.0, grid=24).taken


def test_a_scan_without_a_label_is_taken_without_one(tools):
    folder = tools.folder()
    table = tools.table(folder, 2)
    table.write_text(table.read_text("utf-8").replace("1_seg.nii.gz", ""), "utf-8")
    import_table(table, folder / "site.db", **SMALL)
    with open_store(folder / "site.db") as store:
        assert [scan.labelled for scan in store.scans()] == [True, False]


def unpacked(path):
    with nib.openers.ImageOpener(path) as file:
        return file.read()


class TestBadScan:
    """A scan that cannot be used is left out with its reason; the others are taken."""

    def left_out(self, folder):
        summary = import_table(folder / "table.csv", folder / "site.db", **SMALL)
        assert len(summary.taken) == 3
        (scan,) = summary.left_out
        assert scan.subject == "p1" and folder.name not in scan.reason and "p1" not in scan.reason
        with open_store(folder / "site.db") as store:
            assert store.meta["skipped"] == [{"subject": "p1", "session": "", "reason": scan.reason}]
        return scan.reason

    def prepared(self, tools):
        folder = tools.folder()
        tools.table(folder)
        return folder

    def test_missing(self, tools):
        folder = self.prepared(tools)
        (folder / "1_t1.nii.gz").unlink()
        assert self.left_out(folder) == "the file is missing or out of reach; check its path"

    def test_a_folder(self, tools):
        folder = self.prepared(tools)
        (folder / "1_t1.nii.gz").unlink()
        (folder / "1_t1.nii.gz").mkdir()
        with pytest.raises(ImportScanError, match="this is a folder or a device, not a file; name the image itself"):
            images.load(folder / "1_t1.nii.gz")
        assert "this is a folder or a device, not a file; name the image itself" in self.left_out(folder)

    def test_truncated_gzip(self, tools):
        folder = self.prepared(tools)
        content = (folder / "1_t1.nii.gz").read_bytes()
        (folder / "1_t1.nii.gz").write_bytes(content[: len(content) // 2])
        assert "truncated or damaged" in self.left_out(folder)

    @pytest.mark.parametrize("name", ["scan.nii.gz", "scan.NII.GZ", "scan.mgz", "scan.img.gz", "scan.nii.bz2"])
    @pytest.mark.parametrize("damage", ["voxel", "checksum", "length", "cut", "no trailer"])
    def test_damage_that_still_decompresses(self, tools, name, damage):
        """The voxels alone can be read; only what follows them says that they are not those that were written."""
        path = tools.folder() / name
        voxels = tools.head()[0].astype(np.int16)
        kind = nib.MGHImage if "mgz" in name else nib.Nifti1Pair if "img" in name else nib.Nifti1Image
        nib.save(kind(voxels, np.eye(4)), path)
        assert (np.asanyarray(images.load(path).dataobj) == voxels).all()
        content = bytearray(gzip.compress(unpacked(path), 0) if "bz2" not in name else path.read_bytes())
        changed = {"voxel": len(content) // 2, "checksum": -6, "length": -2}
        if damage in changed:
            content[changed[damage]] ^= 1
        else:
            del content[{"cut": -1, "no trailer": -8}[damage] :]
        path.write_bytes(content)
        # A block of bzip2 that is damaged gives no voxel, and a small image no header either.
        with pytest.raises(
            ImportScanError, match="truncated or damaged|not an image" if "bz2" in name else "truncated or damaged"
        ):
            images.load(path)

    def test_parts_that_were_compressed_one_by_one_and_zeros_after_them_are_no_damage(self, tools):
        """As `bgzip` writes a file, and as a tape pads it."""
        path = tools.folder() / "scan.nii"
        tools.nifti(path, tools.head()[1])
        content = path.read_bytes()
        packed = path.with_suffix(".nii.gz")
        packed.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + bytes(100))
        assert (np.asanyarray(images.load(packed).dataobj) == tools.head()[1]).all()

    def test_header_lies_about_size(self, tools):
        folder = self.prepared(tools)
        raw = bytearray(gzip.decompress((folder / "1_t1.nii.gz").read_bytes()))
        raw[42:44] = (200).to_bytes(2, "little")
        (folder / "1_t1.nii.gz").write_bytes(gzip.compress(bytes(raw)))
        assert "truncated or damaged" in self.left_out(folder)

    def header(self, folder, **changes):
        """Change fields of one image's header behind nibabel's back, which would mend them."""
        content = bytearray(gzip.decompress((folder / "1_t1.nii.gz").read_bytes()))
        fields = np.frombuffer(content, nib.nifti1.header_dtype, 1)
        for name, value in changes.items():
            fields[name][0] = value
        (folder / "1_t1.nii.gz").write_bytes(gzip.compress(bytes(content)))

    @pytest.mark.parametrize(
        "changes",
        [{"quatern_b": 0.9, "quatern_c": 0.9, "quatern_d": 0.9}, {"qoffset_x": np.nan}],
    )
    def test_a_malformed_qform_beside_a_good_sform_is_told(self, tools, changes):
        folder = self.prepared(tools)
        self.header(folder, qform_code=1, sform_code=1, **changes)
        summary = import_table(folder / "table.csv", folder / "site.db", **SMALL)
        assert len(summary.taken) == 4 and not summary.left_out
        assert "the header's qform is malformed; the sform was taken" in summary.taken[1].warnings

    def test_a_unit_that_does_not_exist_is_unknown(self, tools):
        folder = self.prepared(tools)
        self.header(folder, xyzt_units=7)
        import_table(folder / "table.csv", folder / "site.db", **SMALL)
        with open_store(folder / "site.db") as store:
            assert store.scans()[1].native.units == "unknown"

    def test_an_image_longer_than_a_database_may_hold(self, tools):
        folder = self.prepared(tools)
        voxels = np.arange(4100 * 16).reshape(4100, 4, 4).astype(np.int16) % 50
        for name in ("1_t1.nii.gz", "1_seg.nii.gz"):
            tools.nifti(folder / name, voxels if "t1" in name else (voxels > 9).astype(np.uint8))
        assert "the header tells of 4100 x 4 x 4 voxels" in (reason := self.left_out(folder))
        assert "wanted at most 4096 a side and 1.07 GB" in reason

    def test_a_header_that_makes_the_conformed_image_immense(self, tools):
        folder = self.prepared(tools)
        for name in ("1_t1.nii.gz", "1_seg.nii.gz"):
            voxels = np.asanyarray(nib.load(folder / name).dataobj)
            tools.nifti(folder / name, voxels, np.diag([50.0, 50, 50, 1]))
        summary = import_table(folder / "table.csv", folder / "site.db", spacing=1.0, grid=None)
        assert len(summary.taken) == 3 and "1000 x 900 x 1100 voxels; give a grid" in summary.left_out[0].reason

    @pytest.mark.parametrize("factor", [1e300, 1e40, 1e-300])
    def test_values_that_float32_cannot_hold(self, tools, factor):
        folder = self.prepared(tools)
        image, _ = tools.head(seed=1)
        tools.nifti(folder / "1_t1.nii.gz", image * factor, np.diag([2, 2, 2, 1]))
        assert "which float32 cannot hold; rescale the image" in self.left_out(folder)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 400])
    def test_wrong_magic(self, tools, content):
        folder = self.prepared(tools)
        (folder / "1_t1.nii.gz").write_bytes(gzip.compress(content))
        assert "not an image that nibabel can read" in self.left_out(folder)

    def test_nan(self, tools):
        folder = self.prepared(tools)
        image = tools.head()[0].astype(np.float32)
        image[6:14, 6:12, 6:12] = np.nan
        tools.nifti(folder / "1_t1.nii.gz", image, np.diag([2, 2, 2, 1]))
        assert "288 voxels are NaN or infinite, among them" in self.left_out(folder)

    def test_zero_variance(self, tools):
        folder = self.prepared(tools)
        tools.nifti(folder / "1_t1.nii.gz", np.zeros((20, 18, 22), np.int16), np.diag([2, 2, 2, 1]))
        assert "empty or constant" in self.left_out(folder)

    def test_different_grids(self, tools):
        folder = self.prepared(tools)
        tools.nifti(folder / "1_seg.nii.gz", tools.head((20, 18, 21))[1], np.diag([2, 2, 2, 1]))
        assert "image and label have different grids" in self.left_out(folder)

    def test_labels_outside_the_set(self, tools):
        folder = self.prepared(tools)
        tools.nifti(folder / "1_seg.nii.gz", tools.head()[1] * 3, np.diag([2, 2, 2, 1]))
        assert "label values 3, 6 are outside the label set" in self.left_out(folder)

    def test_strict_refuses_the_whole_import(self, tools):
        folder = self.prepared(tools)
        (folder / "1_t1.nii.gz").unlink()
        with pytest.raises(ImportScanError, match="the file is missing"):
            import_table(folder / "table.csv", folder / "site.db", **SMALL, strict=True)
        assert not (folder / "site.db").exists()

    def test_no_scan_at_all(self, tools):
        folder = self.prepared(tools)
        for index in range(4):
            (folder / f"{index}_t1.nii.gz").unlink()
        with pytest.raises(ImportScanError, match="none of 4 scans can be used: the file is missing"):
            import_table(folder / "table.csv", folder / "site.db", **SMALL)
        assert not (folder / "site.db").exists()


class TestBadTable:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no column subject, image, label; it has none"),
            ("subject,image\na,b\n", "has no column label; it has subject, image"),
            ("subject,image,label\n", "has no rows to import"),
            ("subject,image,label\n,b,c\n", "lacks its subject or image"),
            ("subject,image,label\na,b,c\na,d,e\n", "1 scans are listed twice"),
        ],
    )
    def test_refused(self, tmp_path, text, message):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(ImportScanError, match=message):
            sources.table(tmp_path / "t.csv", {})

    def test_unknown_column_in_a_condition(self, tmp_path):
        (tmp_path / "t.csv").write_text("subject,image,label\na,b,c\n")
        with pytest.raises(ImportScanError, match="has no column site"):
            sources.table(tmp_path / "t.csv", {"site": "a"})

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
    def test_unreadable(self, tmp_path, content):
        if content is not None:
            (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(ImportScanError, match="cannot be read; wanted a CSV or TSV file in UTF-8"):
            sources.table(tmp_path / "t.csv", {})

    def test_options(self, tools):
        folder = tools.folder()
        table = tools.table(folder, 1)
        for changes, message in (
            ({"normalisation": "max"}, "'max' is unknown"),
            ({"grid": (1, 2)}, "one or three numbers"),
        ):
            with pytest.raises(ImportScanError, match=message):
                import_table(table, folder / "site.db", **changes)

    def test_an_existing_database_is_not_replaced_unasked(self, tools):
        folder = tools.folder()
        table = tools.table(folder, 1)
        (folder / "site.db").write_text("mine")
        with pytest.raises(ImportScanError, match="exists already"):
            import_table(table, folder / "site.db", **SMALL)
        assert (folder / "site.db").read_text() == "mine"
        assert import_table(table, folder / "site.db", **SMALL, overwrite=True).taken


class TestStorable:
    @pytest.mark.parametrize("storage", images.STORAGES)
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"])
    def test_whole_numbers_up_to_255_are_kept_exactly(self, dtype, storage):
        image = np.arange(100).reshape(4, 5, 5).astype(dtype)
        stored, slope = images.storable(image, storage)
        assert slope == 1 and stored.dtype == np.uint8 and (stored == image).all()

    @pytest.mark.parametrize("storage", ["12bit", "exact"])
    @pytest.mark.parametrize(("low", "high", "wanted"), [(0, 255, "uint8"), (-3, 255, "int16"), (0, 40000, "uint16")])
    def test_the_smallest_type_that_fits(self, low, high, wanted, storage):
        stored, slope = images.storable(np.array([[[low, high]]], np.float64), storage)
        assert (stored.dtype.name, slope, stored.ravel().tolist()) == (wanted, 1.0, [low, high])

    @pytest.mark.parametrize("sign", [1, -1])
    def test_fractions_are_off_by_at_most_half_a_level_and_zero_stays_zero(self, sign):
        image = np.random.default_rng(2).gamma(2, 100, (9, 9, 9)).astype(np.float32)
        image[0] = 0
        image[1] *= sign
        stored, slope = images.storable(image, "12bit")
        assert np.abs(stored * slope - image).max() <= np.abs(image).max() / 4095 * 0.501
        assert (stored[0] == 0).all() and stored.dtype.name == ("uint16" if sign > 0 else "int16")

    @pytest.mark.parametrize("dtype", ["float32", "int32", "uint16"])
    def test_eight_bits_lose_half_a_level_below_the_quantile_and_saturate_above(self, dtype):
        image = np.random.default_rng(2).gamma(2, 100, (20, 20, 20)).astype(dtype)
        image[0] = 0
        image[1, 1, 1] = 9000
        stored, slope = images.storable(image)
        top = np.quantile(image[image > 0], 0.999)
        assert stored.dtype == np.uint8 and slope == pytest.approx(top / 255)
        below = image <= top
        assert np.abs(stored * slope - image)[below].max() <= slope * 0.501
        assert (stored[image > top * 1.01] == 255).all() and (stored[image == 0] == 0).all()

    def test_eight_bits_cannot_hold_negative_values_so_they_get_twelve(self):
        image = np.random.default_rng(2).normal(0, 1, (9, 9, 9))
        stored, slope = images.storable(image)
        assert stored.dtype == np.int16 and np.abs(stored * slope - image).max() <= np.abs(image).max() / 4095 * 0.501

    def test_exact_fractions_are_float32(self):
        image = np.random.default_rng(2).gamma(2, 100, (9, 9, 9)).astype(np.float32)
        stored, slope = images.storable(image, "exact")
        assert slope == 1 and stored.dtype == np.float32 and (stored == image).all()

    def test_an_unknown_storage(self):
        with pytest.raises(ImportScanError, match="storage '7bit' is unknown; choose one of 8bit, 12bit, exact"):
            images.storable(np.ones((2, 2, 2)), "7bit")
