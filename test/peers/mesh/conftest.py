"""A mesh on the loopback, its nodes in this process; without the extra nothing here is run."""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MISSING = [name for name in ("zmq", "pyftpdlib", "OpenSSL") if importlib.util.find_spec(name) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


@dataclass
class Mesh:
    """Nodes that are closed at the end."""

    folder: Path
    told: list = field(default_factory=list)
    nodes: list = field(default_factory=list)

    @property
    def known(self):
        from peers.mesh.keys import Known

        return Known(self.folder)

    def pair(self, name):
        from peers.mesh.keys import pair

        return pair(self.folder, name)

    def bootstrap(self, name="bootstrap1", lease=5.0, **rest):
        from peers.mesh.bootstrap import Bootstrap
        from peers.mesh.registry import Registry

        node = Bootstrap(self.pair(name), self.known, Registry(lease), told=self.told.append, **rest)
        self.nodes.append(node)
        return node

    def contact(self, node, name="bootstrap1"):
        from peers.mesh.node import Contact

        return Contact(name, node.address)

    def provider(self, name, *contacts, memory=1e9, take_data=True, **rest):
        from peers.mesh.machine import Machine
        from peers.mesh.provider import Provider

        machine = Machine(rest.pop("device", "cpu"), memory, 1e9, rest.pop("cores", 1))
        node = Provider(
            self.pair(name), self.known, machine, self.folder / name, contacts,
            take_data=take_data, told=self.told.append, lease=rest.pop("lease", 5.0), **rest,
        )  # fmt: skip
        self.nodes.append(node)
        return node

    def member(self, name, *contacts, place=None, seconds=2.0):
        from peers.mesh.node import Member
        from peers.mesh.offers import Offer

        own = Offer(name, "tcp://127.0.0.1:9", self.pair(name).public, "requester", place=place)
        return Member(
            self.pair(name), self.known, lambda: own, contacts, self.folder / f"{name}.met", self.told.append, seconds
        )

    def requester(self, *contacts, name="requester1", **rest):
        from peers.mesh.requester import Requester

        member = self.member(name, *contacts)
        return Requester(member, self.folder / f"{name}-task", told=self.told.append, **rest)

    def close(self):
        for node in reversed(self.nodes):
            node.close()


@pytest.fixture
def mesh(tmp_path):
    made = Mesh(tmp_path)
    yield made
    made.close()
