"""A node's wire in a process of its own, that does what it is told line by line, and can be killed.

Reads JSON lists from its standard input, `[verb, ...]`, and answers each with one line of JSON.
"""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
KEY = b"k" * 32


def content(seed, size):
    return np.random.default_rng(seed).bytes(size)


class Station:
    """The other end of such a process."""

    def __init__(self, folder, name, *join, topics=("a",)):
        command = [sys.executable, str(Path(__file__)), str(folder / name), name, json.dumps(topics), *join]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self.name, self.address = self.answer()

    def begin(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def ask(self, *words):
        self.begin(*words)
        return self.answer()

    def answer(self):
        return json.loads(self.process.stdout.readline() or "null")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def obey(wire, words):
    from peers.requests import Get, Peers, Publish, Put, Wait

    match words:
        case ["peers"]:
            return wire.perform(Peers())
        case ["put", seed, size]:
            return wire.perform(Put(content(seed, size)))
        case ["announce", seed, size, topic]:
            address = wire.perform(Put(content(seed, size)))
            wire.perform(Publish(topic, address))
            return address
        case ["get", address, seconds]:
            began = time.monotonic()
            found = wire.perform(Get(address, seconds))
            return [found and hashlib.sha256(found).hexdigest(), time.monotonic() - began]
        case ["fetch", seconds]:  # what is announced next
            (note, *_) = wire.perform(Wait(seconds))
            found = wire.perform(Get(note.text, seconds, note.sender))
            return [found and hashlib.sha256(found).hexdigest(), time.monotonic()]
        case ["counts"]:
            return [wire.counts.received, wire.counts.again]
    raise ValueError(words)


def main(folder, name, topics, *others):
    from peers.engines.libp2p import Wire
    from peers.swarm.channel import Channel
    from peers.swarm.store import Store

    identity = hashlib.sha256(name.encode()).digest()
    with Wire(Channel("test", KEY), Store(Path(folder), 1 << 28), json.loads(topics), identity, others=others) as wire:
        print(json.dumps([wire.name, wire.address]), flush=True)
        for line in sys.stdin:
            print(json.dumps(obey(wire, json.loads(line))), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(*sys.argv[1:])
