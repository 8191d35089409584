"""Signatures are Ed25519's own, over one text for each value, and good for one purpose, value and key."""

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from computation.wire import signing
from computation.wire.signing import Key, digest_of, fingerprint, statement, verify

NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab€", max_size=3), inner, max_size=3),
    max_leaves=8,
)
# RFC 8032, section 7.1, tests 1 and 2.
ORACLES = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("seed", "public", "text", "signature"), ORACLES)
def test_signatures_are_those_of_the_standard(seed, public, text, signature):
    key = Key(bytes.fromhex(seed))
    assert (key.public, key.sign(bytes.fromhex(text))) == (public, signature)
    assert verify(public, signature, bytes.fromhex(text))


@settings(deadline=None, max_examples=50)
@given(value=VALUES, other=VALUES)
def test_a_signature_is_good_for_its_own_statement_only(value, other):
    key, stranger = Key(b"k" * 32), Key(b"s" * 32)
    said = statement("message", "a", value)
    signature = key.sign(said)
    assert verify(key.public, signature, said)
    assert not verify(stranger.public, signature, said)
    assert not verify(key.public, signature, statement("key", "a", value))
    if statement("message", "a", other) != said:
        assert not verify(key.public, signature, statement("message", "a", other))


@pytest.mark.parametrize("signature", ["", "zz", "00" * 63, "00" * 64, "00" * 65, "ff" * 64, "é" * 128])
def test_what_is_no_signature_and_no_key_is_none(signature):
    key = Key.make()
    assert not verify(key.public, signature, b"text")
    assert not verify(signature, key.sign(b"text"), b"text")


def _through_javascript(value):
    """JSON.parse and JSON.stringify: every number is a double, and a whole one is written without a point."""
    if isinstance(value, dict):
        return {key: _through_javascript(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [_through_javascript(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return value


@settings(deadline=None, max_examples=200)
@given(value=VALUES)
def test_the_text_is_the_same_after_a_journey_through_javascript(value):
    arrived = json.loads(json.dumps(_through_javascript(value)))
    assert statement("message", arrived) == statement("message", value)
    assert digest_of(arrived) == digest_of(value)


def _plain(value):
    """Return a value in which equal numbers are one number, as the module's text says it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if value == int(value) and abs(value) < 2**53 else float(value)
    return value


@settings(deadline=None, max_examples=200)
@given(value=VALUES)
def test_the_text_is_that_of_sorted_names_and_plain_numbers(value):
    wanted = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))
    assert statement("message", value) == f'["coinstac-meshnet message",{wanted}]'.encode("ascii")


def test_what_holds_itself_is_no_statement():
    value = []
    value.append(value)
    with pytest.raises(RecursionError):
        statement("message", value)


def test_different_values_have_different_texts():
    values = [None, True, False, 0, 1, 1.5, -1, "", "1", "true", [], [1], [[1]], [1, 1], {}, {"1": 1}, {"a": None}]
    assert len({statement("message", value) for value in values}) == len(values)
    assert statement("message", 1, 2) != statement("message", [1, 2]) != statement("message", 12)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", object()])
def test_what_is_no_json_is_never_signed(value):
    with pytest.raises((ValueError, TypeError)):
        statement("message", value)


def test_a_key_never_shows_its_secret_half():
    key = Key.make()
    assert key.seed.hex() not in f"{key} {key!r}"
    assert len({Key.make().public for _ in range(4)}) == 4


def test_fingerprints_can_be_read_aloud():
    key = Key(b"k" * 32).public
    assert fingerprint(key) == "f1qat-w5663-01bdc-eeken"
    assert [len(group) for group in fingerprint(key, 6).split("-")] == [5] * 6
    assert fingerprint(key, 6).startswith(fingerprint(key))
    assert len({fingerprint(Key.make().public) for _ in range(20)}) == 20
    assert not set("ilou") & set("".join(fingerprint(Key.make().public) for _ in range(40)))


SMALL = [text[:-1] + bytes([text[-1] | sign]) for text in sorted(signing._SMALL) for sign in (0, 128)]


@pytest.mark.parametrize("public", SMALL, ids=lambda key: key.hex()[:4] + key.hex()[-2:])
def test_keys_for_which_anybody_can_sign_are_none(public):
    """With these a signature is good that was made without a key: a point of small order, and a scalar of 0."""
    forged = [(point + bytes(32), bytes([number])) for point in SMALL for number in range(16)]
    good = [(signature, text) for signature, text in forged if _taken(public, signature, text)]
    assert good
    assert not any(verify(public.hex(), signature.hex(), text) for signature, text in good)


def _taken(public, signature, text):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True
