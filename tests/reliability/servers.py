"""The cluster's S3 server (versitygw) on loopback, for as long as it is used."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from softprompt.release.s3_client import S3Access, s3_client
from tests.ports import free_port

VERSITYGW = Path(__file__).parents[3] / "shared" / "cluster" / "s3"
BUCKET = "softprompt"


@contextmanager
def versitygw_server(folder: Path) -> Iterator[S3Access]:
    """A server of a folder, with the bucket `softprompt`."""
    port = free_port()
    keys = {"ROOT_ACCESS_KEY": "test-access", "ROOT_SECRET_KEY": "test-secret"}
    command = [str(VERSITYGW), str(folder), str(port)]
    process = subprocess.Popen(command, env=os.environ | keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_port(port, process)
        access = S3Access(
            endpoint_url=f"http://127.0.0.1:{port}",
            region="us-east-1",
            access_key_id="test-access",
            secret_access_key="test-secret",
        )
        s3_client(access).create_bucket(Bucket=BUCKET)
        yield access
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "versitygw ended"
        time.sleep(0.1)
    raise AssertionError("versitygw does not listen")
