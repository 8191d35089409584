"""Nodes that find, lose and leave each other over real sockets of the loopback."""

import ftplib
import socket
import time

import pytest
import zmq
from meshes import pictures

from computation.errors import PeersError
from peers.mesh import data, letters, post
from peers.mesh.keys import Known, pair
from peers.mesh.node import Contact
from peers.mesh.offers import Criteria
from peers.mesh.place import Place
from peers.mesh.search import commonest, search

WATERLOO, TORONTO, TEHRAN = Place(43.47, -80.54), Place(43.65, -79.38), Place(35.7, 51.4)


@pytest.mark.parametrize("port", [0, -1, 65_536, 70_000])
def test_4_1_a_port_that_there_is_not_is_refused(port):
    with pytest.raises(PeersError, match="wanted a number from 1 to 65535"):
        post.checked(port)


def test_4_2_a_port_that_is_taken_is_replaced_and_told(mesh):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        node = mesh.bootstrap(port=port)
        assert not node.address.endswith(f":{port}")
        assert any(f"port {port} is taken" in text for text in mesh.told)


def test_4_2_a_bootstrap_that_never_answers_ends_the_provider_with_a_message(mesh):
    mesh.pair("bootstrap1")
    with pytest.raises(PeersError, match="no bootstrap node answers"):
        mesh.provider("provider1", Contact("bootstrap1", "tcp://127.0.0.1:9"))


def test_the_global_bootstrap_redirects_to_the_nearer_local_one(mesh):
    top = mesh.contact(mesh.bootstrap(place=TEHRAN))
    mesh.bootstrap("local1", place=TORONTO, contacts=(top,))
    mesh.provider("here", top, place=WATERLOO)
    mesh.provider("there", top, place=TEHRAN)
    mesh.provider("nowhere", top)
    assert [one.name for one in mesh.nodes[0].registry.offers()] == ["local1", "there", "nowhere"]
    assert [one.name for one in mesh.nodes[1].registry.offers()] == ["here"]
    found = search(mesh.member("requester1", top), Criteria(place=WATERLOO), 1)
    assert [one.offer.name for one in found] == ["here"]


def test_neighbours_of_neighbours_are_asked_until_enough_fit_and_a_bootstrap_is_down(mesh):
    top = mesh.contact(mesh.bootstrap())
    mesh.provider("provider1", top)
    mesh.provider("provider2", top)
    member = mesh.member("requester1", top)
    assert len(search(member, Criteria(), 2)) == 2
    # provider2 joined last and knows provider1; the requester has met both, and needs no bootstrap node any more.
    mesh.nodes.pop(0).close()
    alone = mesh.member("requester1", top, seconds=0.3)
    assert {one.offer.name for one in search(alone, Criteria(), 2)} >= {"provider1"}
    with pytest.raises(PeersError, match="no bootstrap node answers"):
        search(mesh.member("requester2", top, seconds=0.3), Criteria(), 1)


def test_4_10_the_commonest_device_is_taken_and_a_scarce_one_is_not_found(mesh):
    top = mesh.contact(mesh.bootstrap())
    mesh.provider("a", top)
    mesh.provider("b", top)
    mesh.provider("c", top, device="cuda")
    member = mesh.member("requester1", top)
    assert commonest(search(member, Criteria(), 9)) == "cpu"
    assert [one.offer.name for one in search(member, Criteria(device="cuda"), 9)] == ["c"]
    assert search(member, Criteria(device="mps"), 9) == ()


def test_4_12_a_ghost_goes_with_its_lease_and_a_lost_leave_is_tried_again(mesh):
    node = mesh.bootstrap(lease=1.0)
    top = mesh.contact(node)
    ghost = mesh.provider("ghost", top)
    mesh.nodes.remove(ghost)
    ghost._member._over.set()  # it has crashed: no sign of life, no goodbye
    ghost._server.close()
    assert [one.name for one in node.registry.offers()] == ["ghost"]
    time.sleep(1.3)
    assert node.registry.offers() == ()
    leaving = mesh.provider("leaving", top)
    usual, lost = leaving._member._register, []

    def lossy(address, key, leave=False):
        if leave and len(lost) < 2:
            lost.append(address)
            return None
        return usual(address, key, leave)

    leaving._member._register = lossy
    mesh.nodes.remove(leaving)
    assert leaving.close()
    assert len(lost) == 2
    assert node.registry.offers() == ()


def test_4_22_a_leave_that_nobody_confirms_ends_after_some_tries(mesh):
    node = mesh.bootstrap()
    provider = mesh.provider("provider1", mesh.contact(node))
    mesh.nodes.clear()
    node.close()
    provider._member.seconds = 0.1
    assert not provider.close()
    assert any("did not confirm" in text for text in mesh.told)


def test_strangers_and_addresses_that_are_not_allowed_get_nothing(mesh, tmp_path):
    node = mesh.bootstrap()
    stranger = pair(tmp_path / "elsewhere", "stranger")
    known = Known(mesh.folder)
    question = letters.letter("stranger", "", discoveryRequest={"peersRequested": 1})
    key = mesh.pair("bootstrap1").public
    assert post.ask(stranger, known, node.address, key, question, seconds=0.3, tries=1) is None
    # A known key that speaks as another.
    assert post.ask(mesh.pair("known1"), known, node.address, key, question, seconds=0.3, tries=1) is None
    assert any("dropped a message of known1" in text for text in mesh.told)
    with pytest.raises(PeersError, match="no IP address"):
        mesh.bootstrap("bootstrap2", allowed=("x",))
    closed = mesh.bootstrap("bootstrap3", allowed=("192.0.2.7",))
    member = mesh.member("requester1", mesh.contact(closed, "bootstrap3"), seconds=0.3)
    with pytest.raises(PeersError, match="no bootstrap node answers"):
        search(member, Criteria(), 1)


def test_a_flood_of_garbage_and_of_oversized_letters_harms_nobody_else(mesh):
    node = mesh.bootstrap()
    top = mesh.contact(node)
    context = zmq.Context()
    flood = post.dealer(context, mesh.pair("flood"), node.address, mesh.pair("bootstrap1").public)
    for number in range(300):
        flood.send(b"\xff" * (2_000_000 if number == 150 else 50))
    mesh.provider("provider1", top)
    assert [one.offer.name for one in search(mesh.member("requester1", top), Criteria(), 1)] == ["provider1"]
    context.destroy(linger=0)


def test_the_same_question_twice_has_one_answer(mesh):
    node = mesh.bootstrap()
    member = mesh.member("requester1", mesh.contact(node))
    question = letters.letter("requester1", "", discoveryRequest={"peersRequested": 1})
    key = mesh.pair("bootstrap1").public
    first = post.ask(member.pair, mesh.known, node.address, key, question)
    mesh.provider("provider1", mesh.contact(node))
    assert post.ask(member.pair, mesh.known, node.address, key, question) == first


@pytest.fixture
def parts(tmp_path):
    source = pictures(tmp_path / "source")
    arrays = data.part(source, "train")
    folder = tmp_path / "parts"
    assert data.cut(arrays, folder, ["a", "b"], 0) == {"a": 32, "b": 32}
    with data.served(folder, ["a", "b"], "127.0.0.1") as made:
        yield folder, made.accounts


def test_parts_come_whole_go_on_where_they_broke_off_and_what_is_altered_is_fetched_again(parts, tmp_path):
    folder, accounts = parts
    here = tmp_path / "here"
    (path,) = data.fetch(accounts["a"], here, 1e9)
    whole = path.read_bytes()
    assert whole == (folder / "a" / path.name).read_bytes()
    for left in (whole[:1000], b"x" * 1000, whole + b"more"):
        path.unlink()
        (here / f"{path.name}.partial").write_bytes(left)
        assert data.fetch(accounts["a"], here, 1e9)[0].read_bytes() == whole
    with pytest.raises(PeersError, match=r"the data need .* here are 100"):
        data.fetch(accounts["a"], here, 100)


@pytest.mark.parametrize(
    "index",
    [
        '[{"name": "../../x.npz", "bytes": 1, "sha256": "%s"}]',
        '[{"name": "/etc/passwd", "bytes": 1, "sha256": "%s"}]',
        '[{"name": "a.npz", "bytes": -1, "sha256": "%s"}]',
        '[{"name": "a.npz", "bytes": 1e30, "sha256": "%s"}]',
        '[{"name": "a.npz", "bytes": 1, "sha256": "x%s"}]',
        "[]",
        "{",
    ],
)
def test_an_index_with_path_tricks_or_nonsense_is_refused_by_the_provider(parts, tmp_path, index):
    folder, accounts = parts
    (folder / "a" / data.INDEX).write_text(index.replace("%s", "0" * 64))
    with pytest.raises(PeersError, match="the index of the data"):
        data.fetch(accounts["a"], tmp_path / "here", 1e9)
    assert not list(tmp_path.rglob("x.npz"))


def test_the_server_gives_one_user_one_folder_over_tls_and_takes_nothing(parts):
    _, accounts = parts
    account = accounts["a"]
    with data._connected(account) as ftp:
        assert sorted(ftp.nlst()) == ["index.json", "part-00000.npz"]
        for command in (
            "RETR ../b/part-00000.npz",
            "RETR /../server.pem",
            "CWD ..",
            "DELE index.json",
            "STOR x",
            "MKD x",
        ):
            try:
                reply = ftp.sendcmd(command)
            except ftplib.Error:
                continue
            assert command == "CWD .."  # the root above the root is the root
            assert reply.startswith("250")
        assert sorted(ftp.nlst()) == ["index.json", "part-00000.npz"]
    with ftplib.FTP() as plain:
        plain.connect(account.host, account.port)
        with pytest.raises(ftplib.Error):
            plain.login(account.user, account.password)
    other = accounts["b"]
    for wrong in (
        data.Account(account.host, account.port, account.user, other.password, account.certificate),
        data.Account(account.host, account.port, "nobody", account.password, account.certificate),
    ):
        with pytest.raises(ftplib.Error), data._connected(wrong):
            pass
