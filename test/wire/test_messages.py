"""Messages: what one end writes the other reads, and anything else is one named error."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.errors import MeshNetError, MessageError
from computation.wire.messages import (
    REASONS,
    Arrived,
    Evaluation,
    FinishOffer,
    JoinOffer,
    Masked,
    Masking,
    Plan,
    Results,
    RoundOffer,
    Unmasking,
    Verdict,
)

DIGEST = "ab" * 32
SEALED = "cd" * 60
COUNTS = Evaluation(3, (5, 2), (6, 4), (7, 3), 2)
MESSAGES = [
    JoinOffer(
        {"seed": 1},
        ("background", "x"),
        {"train": 1, "valid": 2, "test": 0},
        {"valid": 1, "test": 0},
        {"valid": 4096, "test": 0},
        1,
        {"spacing": "3"},
        "cpu",
        {},
    ),
    Plan("run", 10, ("a", "b"), DIGEST, DIGEST, ("note",), ("b",), {"a": 4}),
    RoundOffer(4, "ok", "", 2, 0.5, DIGEST, 0, 0.1, COUNTS),
    RoundOffer(4, "skipped", "unreadable", 0, 0.0, DIGEST, 1, 0.1, None),
    RoundOffer(4, "evaluates", "", 0, 0.0, DIGEST, 0, 0.1, COUNTS),
    Verdict(4, False, ("a",), {"b": "unreadable"}, 0.5, DIGEST, 3, {"background": 0.9, "x": None}, 3, True),
    Verdict(4, True, (), {"a": "absent"}, None, DIGEST),
    Verdict(4, False, ("a", "c"), {"b": "excluded"}, 0.5, DIGEST, clipped=("c",)),
    Verdict(4, False, ("a",), {}, 0.5, DIGEST, 3, {}, -1, True, {"b": "no counts"}, "patience"),
    FinishOffer("evaluated", DIGEST, {"valid": COUNTS}),
    Plan("run", 10, ("a", "b"), DIGEST, DIGEST, masking=Masking({"a": DIGEST, "b": DIGEST}, {"a": 1, "b": 9})),
    RoundOffer(4, "ok", "", 2, 0.0, DIGEST, masked=Masked({"b": SEALED}, {"b": DIGEST})),
    Arrived(4, ("a", "b"), {"a": {"b": SEALED}, "b": {"a": SEALED}}),
    Unmasking(4, DIGEST, {"b": DIGEST}, {"c": DIGEST}, ("d",)),
    Results(10, DIGEST, 9, DIGEST, {"background": 0.9}, {}),
    Results(10, DIGEST, 10, DIGEST, {}, {}, {"a": "no counts"}, {"b": "0 of 1 scans"}, False, "patience"),
]
VERDICT = next(message for message in MESSAGES if isinstance(message, Verdict))
RESULTS = next(message for message in MESSAGES if isinstance(message, Results))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_round_trip_through_json(message):
    text = json.dumps(message.as_json(), allow_nan=False)
    assert type(message).parse(json.loads(text)) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_message_is_read_or_refused_by_name(message, data):
    raw = message.as_json()
    name = data.draw(st.sampled_from([*sorted(raw), "stranger"]))
    raw[name] = data.draw(JSON)
    if data.draw(st.booleans()):
        del raw[data.draw(st.sampled_from(sorted(raw)))]
    try:
        parsed = type(message).parse(raw)
    except MeshNetError as error:
        assert isinstance(error, MessageError)
        assert error.public
    else:
        json.dumps(parsed.as_json(), allow_nan=False)


@settings(deadline=None)
@given(raw=JSON)
def test_anything_else_is_refused(raw):
    for message in MESSAGES:
        with pytest.raises(MessageError):
            type(message).parse(raw)


def _broken(message, **changes):
    return {**message.as_json(), **changes}


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (_broken(MESSAGES[2], protocol=1), "'protocol' of the contribution is 1; wanted 3"),
        (_broken(MESSAGES[2], loss=math.nan), "'loss' of the contribution"),
        (_broken(MESSAGES[2], loss=10**400), "'loss' of the contribution"),
        (_broken(MESSAGES[2], loss=1.7e308), "'loss' of the contribution"),
        (_broken(MESSAGES[2], samples=0), "at least one sample"),
        (_broken(MESSAGES[2], samples=True), "'samples'"),
        (_broken(MESSAGES[3], reason="the scan of Jane Doe"), "known reason"),
        (_broken(MESSAGES[2], subject="sub-01"), "unknown field 'subject'"),
        (_broken(MESSAGES[2], model="zz" * 32), "a SHA-256 digest"),
    ],
)
def test_refusals_name_the_field(raw, said):
    with pytest.raises(MessageError) as caught:
        RoundOffer.parse(raw)
    assert said in caught.value.public


def test_a_site_has_no_field_for_words_of_its_own():
    with pytest.raises(MessageError, match="unknown field 'notes'"):
        JoinOffer.parse(_broken(MESSAGES[0], notes=["a"]))


@pytest.mark.parametrize("number", [1.0000000000000002, -0.1, 2, True])
def test_a_dice_outside_zero_to_one_is_refused(number):
    for message, field in ((VERDICT, "dice"), (RESULTS, "dice"), (RESULTS, "test_dice")):
        with pytest.raises(MessageError, match=f"'{field}' of the .* a number from 0 to 1"):
            type(message).parse(_broken(message, **{field: {"x": number}}))


@pytest.mark.parametrize("number", [10**400, -(10**400), 1e39])
def test_numbers_that_would_overflow_are_refused_from_the_centre_too(number):
    with pytest.raises(MessageError, match="'loss' of the verdict"):
        Verdict.parse(_broken(VERDICT, loss=number))
    with pytest.raises(MessageError, match="'dice' of the results"):
        Results.parse(_broken(RESULTS, dice={"x": number}))


def test_impossible_counts_are_refused():
    with pytest.raises(MessageError, match="more voxels in common than there are"):
        Evaluation.parse(Evaluation(1, (9, 0), (6, 4), (7, 3), 2).as_json())
    with pytest.raises(MessageError, match="different lengths"):
        Evaluation.parse(Evaluation(1, (5, 2), (6, 4, 1), (7, 3), 2).as_json())

    with pytest.raises(MessageError, match="labels another number of voxels"):
        Evaluation.parse(Evaluation(1, (5, 2), (6, 5), (7, 3), 2).as_json())
    with pytest.raises(MessageError, match="another number of voxels"):
        Evaluation.parse(Evaluation(1, (0, 0), (0, 0), (0, 0), 2).as_json())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scans": {"train": 2**53, "valid": 0, "test": 0}}, "'scans' .* at most 100000 for 'train'"),
        ({"scans": {"train": 1, "valid": 0, "test": 0}}, "1 labelled scans of 4096 voxels among 0 in 'valid'"),
        ({"voxels": {"valid": 2**31 + 1, "test": 0}}, "'voxels' .* at most 2147483648 for 'valid'"),
        ({"voxels": {"valid": 4096, "test": 1}}, "'voxels' .* at most 0 for 'test'"),
        ({"labelled": {"valid": True, "test": 0}}, "'labelled'"),
        ({"labelled": {"valid": 1}}, "'labelled'"),
        ({"settings": {"device": {"device": "cpu", "x": math.nan}}}, "'settings' .* finite numbers"),
        ({"settings": {"data": [[[[1]]]]}}, "'settings'"),
        ({"settings": {"data": ["x" * 1001]}}, "'settings'"),
        ({"steps": 10**9}, "'steps' .* a whole number from 0 to 100000"),
        ({"versions": {f"key-{n}": "1" for n in range(1001)}}, "'versions' .* at most 32 entries"),
        ({"versions": {"k" * 41: "1"}}, "'versions' .* at most 40 characters"),
        ({"preparation": {f"key-{n}": "1" for n in range(1001)}}, "'preparation' .* at most 32 entries"),
        (
            {
                "scans": {"train": 0, "valid": 1, "test": 1},
                "labelled": {"valid": 0, "test": 0},
                "voxels": {"valid": 0, "test": 0},
            },
            "no labelled scan to train on or to evaluate",
        ),
    ],
)
def test_a_join_claims_no_more_than_can_be(changes, said):
    with pytest.raises(MessageError, match=said):
        JoinOffer.parse(_broken(MESSAGES[0], **changes))


def test_no_reason_can_carry_a_sites_own_text():
    assert all("{" not in text and "%" not in text for text in REASONS.values())


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (Arrived, {"shares": {"a": {"b": SEALED[:-2]}}}),
        (Arrived, {"shares": {"a": {"b": SEALED.upper()}}}),
        (Arrived, {"shares": {"a": [SEALED]}}),
        (Arrived, {"shares": {"a": {"b" * 300: SEALED}}}),
        (Arrived, {"there": "ab"}),
        (Unmasking, {"shares": {"b": DIGEST + "ab"}}),
        (Unmasking, {"seeds": {"b": 7}}),
        (Unmasking, {"phase": "train"}),
    ],
)
def test_shares_and_seeds_have_their_length_and_their_digits(record, change):
    good = next(message for message in MESSAGES if isinstance(message, record))
    with pytest.raises(MessageError):
        record.parse({**good.as_json(), **change})
