"""Changed bytes without a fuzzer: what is tried where atheris is not installed, and a little of it in every run."""

import random

NASTY = [b"", b"\0", b"\xff" * 8, b"NaN", b"1e999", b"-1", b"9" * 400, b"[" * 2000, b'"\\ud800"', b"null", b"{}", b"\n"]


def mutants(seeds, seed, most=1 << 16):
    """Yield bytes near the seeds, endlessly, from one recorded seed."""
    chance = random.Random(seed)
    while True:
        blob = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 16))):
            _change(blob, chance)
        if chance.random() < 0.1:
            blob += chance.choice(seeds)[chance.randrange(100) :]
        yield bytes(blob[:most] if len(blob) > most and chance.random() < 0.5 else blob)


def _change(blob, chance):
    place = chance.randrange(len(blob) + 1)
    end = min(len(blob), place + chance.choice((1, 1, 2, 4, 8, 64)))
    kind = chance.randrange(6)
    if kind == 0 and place < len(blob):
        blob[place] ^= 1 << chance.randrange(8)
    elif kind == 1 and place < len(blob):
        blob[place] = chance.choice((0, 1, 127, 128, 255, 34, 44, 48, 91, 93, 123, 125))
    elif kind == 2:
        blob[place:end] = chance.choice(NASTY)
    elif kind == 3:
        del blob[place:end]
    elif kind == 4:
        blob[place:place] = blob[chance.randrange(len(blob) + 1) :][: chance.choice((1, 4, 64))]
    else:
        blob[place:end] = chance.randbytes(end - place)
