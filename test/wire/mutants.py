"""Makes bad messages and payloads out of good ones, each from a number, so that a failure can be made again."""

import copy
import json
import random

#: What a hostile or broken program puts where a value was.
NASTY = (
    None, True, False, -1, 0, 1, 2**31, 2**53, 2**63, 10**400, -(10**400), 0.5, -0.0, 5e-324, 3.4e38, 3.5e38, 1.7e308,
    float("nan"), float("inf"), float("-inf"), "", "ok", "skipped", "x" * 201, "x" * 100_000, "\x1b[31mred",
    "a\nb", "\0",
    "\ud800", "../../etc/passwd", "NaN", [], {}, [[]], [None], {"": None}, [0] * 20_000, ["x"] * 1001,
    [10**400] * 3, {f"key-{n}": "1" for n in range(1001)}, {"train": -1, "valid": 0, "test": 0},
)  # fmt: skip


def message(good, seed):
    """Return a message with one to three faults somewhere in it."""
    draw = random.Random(seed)
    raw = copy.deepcopy(good)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        raw = _changed(raw, draw)
    return raw


def _changed(raw, draw):
    places = list(_places(raw))
    if not places or draw.random() < 0.03:
        return _deep(400) if draw.random() < 0.1 else _nasty(draw)
    holder, key = draw.choice(places)
    fault = draw.choice(("replace", "replace", "replace", "remove", "add", "nudge", "swap", "deepen"))
    if fault == "remove":
        del holder[key]
    elif fault == "add" and isinstance(holder, dict):
        holder[draw.choice(("stranger", "__proto__", "k" * 300, ""))] = _nasty(draw)
    elif fault == "add":
        holder.insert(key, _nasty(draw))
    elif fault == "nudge" and isinstance(holder[key], int | float):
        holder[key] += draw.choice((-1, 1, 0.5, 2**40))
    elif fault == "swap":
        other, at = draw.choice(places)
        holder[key], other[at] = copy.deepcopy(other[at]), copy.deepcopy(holder[key])
    elif fault == "deepen":
        holder[key] = [holder[key]] if draw.random() < 0.5 else _deep(400)
    else:
        holder[key] = _nasty(draw)
    return raw


def _nasty(draw):
    """Return one of them, the caller's own to change."""
    return copy.deepcopy(draw.choice(NASTY))


def _places(raw):
    """Yield every place in a message: its holder and its key or index."""
    for key in list(raw) if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ():
        yield raw, key
        yield from _places(raw[key])


def _deep(levels):
    inner = []
    for _ in range(levels):
        inner = [inner]
    return inner


def blob(good, seed):
    """Return a payload's bytes with one to three faults."""
    draw = random.Random(seed)
    data = bytearray(good)
    for _ in range(draw.choice((1, 1, 2, 3))):
        where = draw.randrange(len(data) + 1)
        fault = draw.choice(("flip", "flip", "field", "cut", "insert", "repeat", "zero"))
        if fault == "flip" and where < len(data):
            data[where] ^= 1 << draw.randrange(8)
        elif fault == "field":  # a whole field of the header
            start = draw.randrange(0, min(len(data), 128) + 1, 4)
            data[start : start + 4] = draw.choice((b"\xff" * 4, bytes(4), b"\x00\x00\xc0\x7f", draw.randbytes(4)))
        elif fault == "cut":
            del data[where:]
        elif fault == "insert":
            data[where:where] = draw.randbytes(draw.choice((1, 8, 4096)))
        elif fault == "repeat":
            data += data[:where]
        else:
            data[where : where + 16] = bytes(len(data[where : where + 16]))
    return bytes(data)


def text(raw):
    """Return a message as it would travel, for a report of what failed."""
    return json.dumps(raw)[:300]
