"""One fixture for each interface; a place that needs more than Python adds a name and a maker here."""

import secrets

import pytest
from emulator import MISSING, Emulator
from places import Clock

from service.blobs.files import Files
from service.cases.desk import Desk
from service.store.memory import MemoryStore
from service.store.sqlite import SqliteStore
from service.worker import Worker

#: How each store is made in a folder of its own.
STORES = {"memory": lambda folder: MemoryStore(), "sqlite": lambda folder: SqliteStore(folder / "service.db")}
#: How each place for files is made.
BLOBS = {
    "files": lambda folder: Files(folder / "files"),
    "files and shelf": lambda folder: Files(folder / "files", small=SqliteStore(folder / "service.db").shelf),
}


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    if MISSING:
        pytest.skip(f"AWS'S STORE AND FILES ARE NOT TESTED: {', '.join(MISSING)} is not installed")
    made = Emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.close()


@pytest.fixture
def dynamodb(emulator):
    from service.store.dynamodb import DynamoStore

    emulator.table(name := f"table-{secrets.token_hex(4)}")
    return DynamoStore(name, emulator.client("dynamodb", config=config("dynamodb")))


@pytest.fixture
def s3(emulator):
    from service.blobs.s3 import S3Blobs

    emulator.client("s3").create_bucket(Bucket=(name := f"bucket-{secrets.token_hex(4)}"))
    return S3Blobs(name, emulator.client("s3", config=config("s3")))


def config(kind):
    """Return what the code itself would tell boto3; only the address differs."""
    from service.blobs import s3
    from service.store import dynamodb

    return {"dynamodb": dynamodb, "s3": s3}[kind].CONFIG


@pytest.fixture(params=[*STORES, "dynamodb"])
def store(request, tmp_path):
    emulated = request.param == "dynamodb"
    made = request.getfixturevalue("dynamodb") if emulated else STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture(params=[*BLOBS, "s3"])
def blobs(request, tmp_path):
    return request.getfixturevalue("s3") if request.param == "s3" else BLOBS[request.param](tmp_path)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def desk(tmp_path, clock):
    """A desk over memory and files, with a clock that stands still."""
    store = MemoryStore()
    return Desk(store, Files(tmp_path / "files"), clock)


@pytest.fixture
def worker(desk, tmp_path):
    with Worker(desk, tmp_path / "work", lease=60_000) as made:
        yield made


@pytest.fixture
def clinic(tmp_path):
    """A site's own machine with its pages."""
    from clinics import Clinic

    made = Clinic(tmp_path)
    yield made
    made.close()
