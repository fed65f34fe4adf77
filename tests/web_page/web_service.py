"""The search service in a process of its own, which can be killed and comes back on the same port."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

READY_WITHIN_S = 60.0


class WebService:
    """One that runs.

    Attributes:
        address: Address of its page.
    """

    def __init__(self, index, model, folder, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        words = [
            "--index",
            str(index),
            "--server",
            model.address,
            "--model-name",
            "grid",
            "--port",
            str(port),
            *options,
        ]
        self._command = [sys.executable, "-m", "ae_search", "web", *words]
        self._log = folder / "service.log"
        # Uploads are kept below the folder for temporary files.
        self._environment = os.environ | {"TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder)}
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/healthz", timeout=5):
                return
            assert self._process.poll() is None, self._log.read_text()
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def kill(self):
        self._process.kill()
        self._process.wait()

    def stop(self):
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
