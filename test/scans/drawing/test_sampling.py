"""Each scan once per epoch; a batch depends on nothing but seed, site and step; bad scans are left out and counted."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import SettingsError, StoreError
from computation.scans.drawing.augment import USUAL, Augmentation
from computation.scans.drawing.sampling import GridSampler, PatchSampler, Skipped
from computation.scans.store.faults import ScanFault
from computation.scans.store.opening import open_store


@pytest.fixture(scope="module")
def store(tools):
    entries = []
    for index in range(7):
        image, label = tools.head((20, 18, 22), seed=index)
        entries.append(tools.entry(f"s{index}", "train", image=image, label=label))
    image, label = tools.head((16, 16, 16))
    entries.append(tools.entry("v0", "valid", image=image, label=label))
    entries.append(tools.entry("v1", "valid", image=tools.head((9, 9, 9))[0], label=tools.head((9, 9, 9))[1]))
    entries.append(tools.entry("t0", "test", image=image))
    with open_store(tools.database(entries)) as opened:
        yield opened


def sampler(store, split="train", **changes):
    usual = {"patch_size": (8, 8, 8), "batch_size": 2, "seed": 3, "site": "local0"}
    return PatchSampler(store, split, **{**usual, **changes})


def same(one, other):
    return one.scans == other.scans and torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 9))
def test_an_epoch_visits_each_scan_exactly_once(store, batch_size, epoch, seed):
    drawn = sampler(store, batch_size=batch_size, seed=seed)
    assert (drawn.samples, drawn.steps_per_epoch) == (7, -(-7 // batch_size))
    first = epoch * drawn.steps_per_epoch
    seen = [key for step in range(drawn.steps_per_epoch) for key in drawn.batch(first + step).scans]
    assert sorted(seen) == [scan.key for scan in store.scans("train")]


def test_shapes_and_types(store):
    batch = sampler(store, patch_size=(8, 6, 5)).batch(0)
    assert (batch.images.shape, batch.images.dtype) == ((2, 1, 8, 6, 5), torch.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((2, 8, 6, 5), torch.int64)
    assert batch.skipped == () and batch.images.is_contiguous()


def test_a_batch_does_not_depend_on_the_order_of_calls(store):
    steps = list(range(12))
    straight = [sampler(store).batch(step) for step in steps]
    random.Random(1).shuffle(steps)
    one = sampler(store)
    for step in steps + steps[:4]:
        assert same(one.batch(step), straight[step])


def test_nor_on_global_random_state(store):
    np.random.seed(1)
    torch.manual_seed(1)
    before = sampler(store).batch(5)
    np.random.seed(2)
    torch.manual_seed(2)
    assert same(sampler(store).batch(5), before)


@pytest.mark.parametrize("changes", [{"seed": 4}, {"site": "local1"}])
def test_another_seed_or_site_draws_otherwise(store, changes):
    one, other = sampler(store), sampler(store, **changes)
    assert not all(same(one.batch(step), other.batch(step)) for step in range(4))


def test_epochs_differ(store):
    drawn = sampler(store)
    assert not all(same(drawn.batch(step), drawn.batch(step + drawn.steps_per_epoch)) for step in range(4))


def test_a_patch_is_a_part_of_its_scan_and_image_and_label_belong_together(store):
    drawn = sampler(store, batch_size=7)
    scans = {scan.key: scan for scan in store.scans("train")}
    for epoch in range(3):
        batch = drawn.batch(epoch)
        for key, image, label in zip(batch.scans, batch.images[:, 0].numpy(), batch.labels.numpy(), strict=True):
            whole, classes = store.read(scans[key], (0, 0, 0), scans[key].shape)
            windows = np.lib.stride_tricks.sliding_window_view(whole, (8, 8, 8))
            places = np.argwhere((windows == image).all(axis=(3, 4, 5)))
            assert any((classes[x : x + 8, y : y + 8, z : z + 8] == label).all() for x, y, z in places)


def test_every_place_can_be_drawn(store):
    """A patch one voxel smaller than the volume has two places along each axis."""
    drawn = sampler(store, patch_size=(19, 18, 22), batch_size=7)
    scan = store.scans("train")[0]
    firsts = {
        drawn.batch(epoch).images[drawn.batch(epoch).scans.index(scan.key), 0].numpy().tobytes() for epoch in range(12)
    }
    assert len(firsts) == 2


@pytest.mark.parametrize("patch", [None, (0, 0, 0)])
def test_whole_volumes(store, patch):
    batch = sampler(store, patch_size=patch, batch_size=3).batch(0)
    assert batch.images.shape == (3, 1, 20, 18, 22)
    scan = next(scan for scan in store.scans() if scan.key == batch.scans[0])
    image, label = store.read(scan, (0, 0, 0), scan.shape)
    assert (batch.images[0, 0].numpy() == image).all() and (batch.labels[0].numpy() == label).all()


def test_whole_volumes_of_different_shapes_need_batches_of_one(store):
    with pytest.raises(
        SettingsError, match="whole volumes of 2 different shapes cannot share a batch; set batch_size to 1"
    ):
        sampler(store, "valid", patch_size=None)
    drawn = sampler(store, "valid", patch_size=None, batch_size=1)
    assert {drawn.batch(step).images.shape[2] for step in range(2)} == {16, 9}


def test_a_patch_larger_than_a_scan(store):
    with pytest.raises(SettingsError, match="patch_size 8 x 8 x 10 is larger than a scan of 9 x 9 x 9 voxels"):
        sampler(store, "valid", patch_size=(8, 8, 10))


def test_no_training_scans(tools):
    path = tools.database([tools.entry(split="test")])
    with open_store(path) as opened, pytest.raises(StoreError, match="no labelled scans in the 'train' part"):
        sampler(opened)


def test_scans_without_labels_do_not_count(store):
    assert len(store.scans("test")) == 1
    with pytest.raises(StoreError, match="no labelled scans in the 'test' part"):
        sampler(store, "test")


def test_a_batch_size_of_nothing(store):
    with pytest.raises(SettingsError, match="batch_size is 0; wanted at least 1"):
        sampler(store, batch_size=0)


class TestDamage:
    @pytest.fixture
    def damaged(self, tools):
        """Five scans, the third of which has a block with a wrong checksum."""
        entries = [
            tools.entry(f"s{index}", image=tools.head(seed=index)[0], label=tools.head()[1]) for index in range(5)
        ]
        path = tools.spoil(
            tools.database(entries), "UPDATE blocks SET crc32 = crc32 + 1 WHERE block BETWEEN 108 AND 134"
        )
        with open_store(path) as opened:
            yield opened

    def test_the_bad_scan_is_left_out_and_named_by_key_and_reason(self, damaged):
        batch = sampler(damaged, batch_size=5).batch(0)
        assert batch.skipped == (Skipped(3, "checksum-mismatch"),)
        assert sorted(batch.scans) == [1, 2, 4, 5] and batch.images.shape[0] == batch.labels.shape[0] == 4

    def test_the_others_are_drawn_as_if_nothing_were_wrong(self, tools, damaged):
        entries = [
            tools.entry(f"s{index}", image=tools.head(seed=index)[0], label=tools.head()[1]) for index in range(5)
        ]
        with open_store(tools.database(entries)) as sound:
            whole = sampler(sound, batch_size=5).batch(0)
        part = sampler(damaged, batch_size=5).batch(0)
        kept = [index for index, key in enumerate(whole.scans) if key != 3]
        assert torch.equal(whole.images[kept], part.images) and torch.equal(whole.labels[kept], part.labels)

    def test_a_batch_of_nothing_but_bad_scans_raises(self, damaged):
        drawn = sampler(damaged, batch_size=1)
        raised = 0
        for step in range(5):
            try:
                drawn.batch(step)
            except ScanFault as fault:
                assert "does not match its stored checksum" in fault.public
                raised += 1
        assert raised == 1


def test_the_peers_table_is_sampled_alike(tools):
    pairs = [tools.head((12, 12, 12), seed=index) for index in range(4)]
    path = tools.peer(tools.folder() / "p.db", [(image, label / 2) for image, label in pairs])
    with open_store(path) as opened:
        batch = sampler(opened, batch_size=3).batch(0)
        assert batch.images.shape == (3, 1, 8, 8, 8) and int(batch.labels.max()) <= 2


def test_foreground_places_hold_more_foreground_than_uniform_ones(tools):
    image, label = np.zeros((48, 48, 48), np.uint16), np.zeros((48, 48, 48), np.uint8)
    image[32:40, 8:16, 32:40] = np.arange(8) + 100
    label[32:40, 8:16, 32:40] = 1
    path = tools.database([tools.entry(f"s{index}", image=image, label=label) for index in range(4)])
    with open_store(path) as opened:
        share = {}
        for place in ("uniform", "foreground", "centre"):
            drawn = sampler(opened, batch_size=4, place=place)
            share[place] = float(np.mean([(drawn.batch(epoch).labels > 0).float().mean() for epoch in range(8)]))
            assert same(drawn.batch(3), sampler(opened, batch_size=4, place=place).batch(3))
    assert share["foreground"] > 0.1 > 5 * share["uniform"]


def test_an_unknown_place(store):
    with pytest.raises(SettingsError, match="place 'edge' is unknown; choose one of uniform, foreground, centre"):
        sampler(store, place="edge")


def test_augmented_batches_are_as_pure_as_plain_ones(store):
    one, other = sampler(store, augmentation=USUAL), sampler(store, augmentation=USUAL)
    batches = {step: one.batch(step) for step in range(6)}
    for step in (5, 0, 3):
        assert same(other.batch(step), batches[step])
    plain = sampler(store)
    assert plain.batch(2).scans == batches[2].scans and not same(plain.batch(2), batches[2])


@pytest.mark.parametrize(
    "names", [("Left-Putamen", "Right-Putamen"), ("L_caudate", "R_caudate"), ("ctx.lh.x", "ctx.rh.x"), ("l", "r")]
)
def test_classes_of_one_side_are_not_flipped(tools, names):
    path = tools.database(label_names=("background", *names))
    with open_store(path) as opened:
        with pytest.raises(SettingsError, match="use 'augmentation' none"):
            sampler(opened, augmentation=USUAL)
        sampler(opened, augmentation=Augmentation(gamma=0.1)).batch(0)


class TestGrid:
    def grid(self, opened, **changes):
        usual = {"patch_size": (8, 8, 8), "batch_size": 4, "seed": 3, "site": "local0"}
        return GridSampler(opened, "train", **{**usual, **changes})

    def test_an_epoch_shows_every_voxel_of_every_scan(self, store):
        drawn = self.grid(store, patch_size=(10, 9, 11))
        assert drawn.samples == 7 * 8 and drawn.steps_per_epoch == 14
        for epoch in range(2):
            seen = Counter()
            total = 0
            for step in range(drawn.steps_per_epoch):
                batch = drawn.batch(epoch * drawn.steps_per_epoch + step)
                seen.update(batch.scans)
                total += int((batch.labels > 0).sum())
            assert set(seen.values()) == {8} and len(seen) == 7
            scans = store.scans("train")
            whole = sum(int(np.count_nonzero(store.read_label(one, (0, 0, 0), one.shape))) for one in scans)
            assert total == whole, "a grid that fits exactly repeats no voxel"

    def test_order_of_calls_does_not_matter(self, store):
        assert same(self.grid(store).batch(9), self.grid(store).batch(9))
        assert not same(self.grid(store).batch(9), self.grid(store, seed=4).batch(9))

    def test_empty_sub_volumes_can_be_left_out(self, tools):
        image, label = np.zeros((32, 32, 32), np.uint16), np.zeros((32, 32, 32), np.uint8)
        image[:8, :8, :8] = np.arange(8) + 1
        label[:8, :8, :8] = 1
        with open_store(tools.database([tools.entry(image=image, label=label)])) as opened:
            assert self.grid(opened).samples == 64 and self.grid(opened, least=1).samples == 1
            with pytest.raises(StoreError, match="holds 9999 foreground voxels; ask for fewer"):
                self.grid(opened, least=9999)

    def test_overlap_must_be_smaller_than_the_patch(self, store):
        assert self.grid(store, overlap=(4, 4, 4)).samples > self.grid(store).samples
        with pytest.raises(SettingsError, match="must be smaller than the patch"):
            self.grid(store, overlap=(8, 0, 0))
        with pytest.raises(SettingsError, match="must be smaller than the patch"):
            self.grid(store, patch_size=(0, 0, 0))


def test_sampling_stops_when_more_than_the_set_share_is_bad(tools):
    entries = [tools.entry(f"s{index}", image=tools.head(seed=index)[0], label=tools.head()[1]) for index in range(5)]
    path = tools.spoil(tools.database(entries), "UPDATE blocks SET crc32 = crc32 + 1 WHERE block < 108")
    with open_store(path) as opened:
        bearing = sampler(opened, batch_size=5, most_bad=0.4).batch(0)
        assert sorted(one.scan for one in bearing.skipped) == [1, 2]
        strict = sampler(opened, batch_size=5, most_bad=0.3)
        with pytest.raises(StoreError, match=r"2 of 5 scans cannot be read, more than the share of 0\.3 to bear"):
            strict.batch(0)
        with pytest.raises(SettingsError, match="wanted 0 to 1"):
            sampler(opened, most_bad=1.5)
