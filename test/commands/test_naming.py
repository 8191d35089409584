"""Results are called after their scan, and never after another scan's results."""

import json
from pathlib import Path

import pytest

from computation.commands.naming import SOURCE, name_in, names_of, result


def test_names_of_outputs_are_unique():
    paths = [Path("/d/s1/T1.nii.gz"), Path("/d/s2/T1.nii"), Path("/d/x.mgz"), Path("/d/x.mgz"), Path("/T1.nii")]
    assert names_of(paths) == ["s1_T1", "s2_T1", "d_x_3", "d_x_4", "T1"]


def test_outputs_of_linked_scans_are_named_by_where_the_links_lie(tmp_path, monkeypatch):
    for person in ("sub-1", "sub-2"):
        stored = tmp_path / "annex" / f"MD5E-{person}" / "T1.nii.gz"
        stored.parent.mkdir(parents=True)
        stored.write_text(person)
        (tmp_path / person).mkdir()
        (tmp_path / person / "T1.nii.gz").symlink_to(stored)
    assert names_of([tmp_path / "sub-1" / "T1.nii.gz", tmp_path / "sub-2" / "T1.nii.gz"]) == ["sub-1_T1", "sub-2_T1"]
    monkeypatch.chdir(tmp_path / "sub-1")
    assert names_of([Path("T1.nii.gz"), Path("../sub-2/../sub-2/T1.nii.gz")]) == ["sub-1_T1", "sub-2_T1"]


class TestNameInAFolder:
    def held(self, folder, name, checksum):
        result(folder, name, ".json").write_text(json.dumps({SOURCE: checksum}))

    def test_a_free_name(self, tmp_path):
        assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), "mine") == "T1"
        assert name_in(tmp_path / "none", "T1", Path("/d/s1/T1.nii"), "mine") == "T1"

    def test_each_longer_name_in_its_turn_then_numbers(self, tmp_path):
        for wanted in ("T1", "s1_T1", "d_s1_T1", "T1_2", "T1_3"):
            assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), wanted) == wanted
            self.held(tmp_path, wanted, wanted)
        for own in ("T1", "s1_T1", "d_s1_T1", "T1_2", "T1_3"):
            assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), own) == own

    def test_the_results_that_are_there_already_come_before_a_free_name(self, tmp_path):
        """A call with two people named this one by its folder; the next call has this one alone."""
        self.held(tmp_path, "s1_T1", "mine")
        assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), "mine") == "s1_T1"

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b"\xff", b'{"SourceSHA256": 3}'])
    def test_what_nobody_can_read_is_another_scans(self, tmp_path, content):
        result(tmp_path, "T1", ".json").write_bytes(content)
        assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), "mine") == "s1_T1"

    @pytest.mark.parametrize("ending", [".nii.gz", ".tsv", ".png", ".json"])
    def test_any_file_of_that_name_is_somebodys_a_link_to_nowhere_too(self, tmp_path, ending):
        result(tmp_path, "T1", ending).symlink_to("nowhere")
        assert name_in(tmp_path, "T1", Path("/d/s1/T1.nii"), "mine") == "s1_T1"
