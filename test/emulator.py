"""An emulator of AWS in a process of its own, on this machine alone and with nothing of this process's environment."""

import contextlib
import http.client
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

MISSING = [name for name in ("boto3", "ministack") if importlib.util.find_spec(name) is None]
#: What boto3 asks for; the emulator takes anything.
DUMMY = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


class Emulator:
    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for name in ("state/s3", "tmp"):
            (folder / name).mkdir(parents=True)
        self.log = folder / "log"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "STATE_DIR": str(folder / "state"),
            "S3_DATA_DIR": str(folder / "state" / "s3"),
            "GATEWAY_PORT": str(self.port),
            # Without these two it listens for everybody, and on another port too.
            "BIND_HOST": "127.0.0.1",
            "IOT_MTLS_ENABLED": "0",
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": "us-east-1",
            "AUTH": "true",
            "OMP_NUM_THREADS": "1",
        }
        # It runs a Lambda's code with its own Python, so with whatever this environment has.
        with self.log.open("wb") as log:
            words = [sys.executable, "-m", "ministack"]
            self._process = subprocess.Popen(
                words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        for _ in range(300):
            if self._answers():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        self.close()
        raise RuntimeError(f"the emulator does not start: {self.log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2):
                return True
        except (OSError, http.client.HTTPException):
            return False

    def client(self, service: str, **words):
        import boto3

        return boto3.client(service, endpoint_url=self.url, **DUMMY, **words)

    def table(self, name: str) -> None:
        """Make a table as `infrastructure/storage.tf` describes it."""
        keys = ("pk", "sk", "gsi1pk", "gsi1sk", "gsi2pk", "gsi2sk")
        client = self.client("dynamodb")
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=_schema(""),
            GlobalSecondaryIndexes=[
                {"IndexName": index, "KeySchema": _schema(index), "Projection": {"ProjectionType": "KEYS_ONLY"}}
                for index in ("gsi1", "gsi2")
            ],
        )

    def sign_in(self, url: str, name: str, password: str):
        """Sign in at the pool's own pages as a person does, and return what they answer."""
        import httpx
        from offices import fields_of

        told = {**fields_of(httpx.get(url).text), "username": name, "password": password}
        return httpx.post(f"{self.url}/login", data={key: value for key, value in told.items() if key})

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)


def _schema(prefix):
    return [{"AttributeName": f"{prefix}pk", "KeyType": "HASH"}, {"AttributeName": f"{prefix}sk", "KeyType": "RANGE"}]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
