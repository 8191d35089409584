"""The facade: one call puts a round everywhere."""

import csv
import io

from computation.tracking import Notice, RoundNumbers, SiteNumbers, Tracker, notices, read, rounds, summarise, totals

CLASSES = ("background", "white matter", "grey matter")


def test_making_one_writes_nothing(tmp_path):
    Tracker(tmp_path / "output").close()
    assert list(tmp_path.iterdir()) == []


def test_a_round_reaches_journal_table_and_log(tmp_path):
    log = io.StringIO()
    with Tracker(tmp_path, stream=log) as tracker:
        tracker.begin(run="r", rounds=2, classes=CLASSES)
        tracker.event("plan", rounds=2)
        tracker.say("joined: 6 training scans")
        tracker.round(RoundNumbers(1, "d1", loss=0.5, sites=1, counted=("a",)))
    assert [entry["event"] for entry in read(tmp_path / "journal.jsonl")] == ["plan", "round"]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [row["digest"] for row in csv.DictReader(file)] == ["d1"]
    assert log.getvalue() == "joined: 6 training scans\nround 1/2  loss 0.500  1/1 sites  0.0 s\n"


def test_a_restarted_run_ends_in_the_history_of_an_unbroken_one(tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for folder, parts in ((broken, [(1, 3), (2, 5)]), (whole, [(1, 5)])):
        for first, last in parts:
            with Tracker(folder, stream=io.StringIO()) as tracker:
                tracker.begin(run="r", rounds=4, classes=CLASSES)
                for number in range(first, last):
                    tracker.round(RoundNumbers(number, f"d{number}", loss=1 / number))
    assert rounds(read(broken / "journal.jsonl")) == rounds(read(whole / "journal.jsonl"))
    assert (broken / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert len(read(broken / "journal.jsonl")) == 5


def test_notices_are_counted_and_nothing_odd_is_hidden(tmp_path):
    tracker = Tracker(tmp_path, stream=io.StringIO())
    for _ in range(2):
        tracker.notice("clipped", "intensities were clipped", round=1)
    tracker.round(RoundNumbers(1, "d", loss=float("nan")))
    tracker.event("wandb-failed", doing="start", error="no key")
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('damaged\n{"half')
    Tracker(tmp_path).event("restarted")
    assert notices(read(tmp_path / "journal.jsonl")) == (
        Notice("clipped", "intensities were clipped", 2),
        Notice("not finite", "loss of a round was nan"),
        Notice("logging", "Weights & Biases stopped: no key"),
        Notice("journal", "a damaged line was left out"),
        Notice("journal", "a half-written line, left by a process that was killed, was cut off"),
    )


def test_a_course_that_was_given_up_leaves_no_notice(tmp_path):
    tracker = Tracker(tmp_path, stream=io.StringIO())
    tracker.notice("skipped", "a round was skipped", round=1)
    kept = tracker.position
    for _ in range(2):
        tracker.notice("skipped", "a round was skipped", round=2)
        tracker.event("wandb-failed", doing="log", error="no network")
        tracker.round(RoundNumbers(2, "d", loss=float("nan")))
        tracker = Tracker(tmp_path, stream=io.StringIO())
        tracker.go_on(kept)
    tracker.notice("skipped", "a round was skipped", round=2)
    tracker.notice("skipped", "a scan was skipped", round=3)
    assert notices(read(tmp_path / "journal.jsonl")) == (
        Notice("skipped", "a round was skipped", 2),
        Notice("logging", "Weights & Biases stopped: no network", 2),
        Notice("skipped", "a scan was skipped"),
    )


DONE = (
    RoundNumbers(1, "", samples=2, seconds=1.0, own_seconds=0.5, sent=10, received=20, sites=2, counted=("a", "b")),
    RoundNumbers(
        2, "", samples=1, seconds=3.0, own_seconds=0.7, sent=12, sites=2, counted=("a",), skipped={"b": "failed"}
    ),
    RoundNumbers(3, "", seconds=2.0, sites=2, void=True, skipped={"a": "failed", "b": "failed"}, unreadable=1),
)


def test_totals_are_medians_and_sums():
    sums = totals(DONE)
    assert (sums.rounds, sums.void, sums.samples, sums.unreadable) == (3, 1, 3, 1)
    assert (sums.seconds_per_round, sums.seconds) == (2.0, 6.0)
    assert (sums.sent_per_round, sums.sent, sums.received_per_round, sums.received) == (10, 22, 0, 20)
    assert totals(()).rounds == 0


def test_a_site_knows_its_own_share_and_only_the_attendance_of_others():
    own, other = summarise(DONE, "a")
    assert (own.site, own.counted, own.skipped, own.samples, own.seconds) == ("a", 2, 1, 3, 0.5)
    assert (other.site, other.counted, other.skipped, dict(other.reasons)) == ("b", 1, 2, {"failed": 2})
    assert (other.samples, other.loss, other.seconds, other.received) == (None, None, None, None)


def test_the_centre_knows_every_share():
    done = [
        RoundNumbers(
            number,
            "",
            counted=("a",),
            by_site={"a": SiteNumbers(loss=1 / number, samples=2, seconds=number, received=9)},
        )
        for number in (1, 2, 3)
    ]
    (share,) = summarise(done)
    assert (share.counted, share.samples, share.seconds, share.received) == (3, 6, 2, 27)
    assert share.loss == 1 / 3
