"""`ae-search web` as a process of its own."""

import re
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx


@contextmanager
def command(*options):
    """Run the command on a free port; yield its process and address."""
    started = [sys.executable, "-m", "ae_search", "web", "--port", "0", *map(str, options)]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r"on (https?://\S+)", line)
            assert found, (line, process.stderr.read() if process.poll() is not None else "")
            yield process, found[1]
        finally:
            if process.poll() is None:
                process.kill()


def until_ready(address):
    for _ in range(600):
        try:
            if httpx.get(f"{address}/readyz", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not get ready")
