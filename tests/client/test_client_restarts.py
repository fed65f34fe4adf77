"""Servers that die: killed and started again under load, one of two gone, clients closed while they wait."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scripted_server import Script, latents_of

from ae_search.errors import ServerError, ServerUnavailableError

PROCESS = Path(__file__).with_name("server_process.py")


class Servers:
    """One server process after another on one port; the next one is loaded before it is needed."""

    def __init__(self):
        self.port = 0
        self.standby = self._loaded()
        self.running = None
        self.start()

    def _loaded(self):
        process = subprocess.Popen([sys.executable, PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "loaded\n"
        return process

    def start(self):
        self.running, self.standby = self.standby, None
        self.running.stdin.write(f"{self.port}\n")
        self.running.stdin.flush()
        self.port = int(self.running.stdout.readline())

    def load(self):
        self.standby = self._loaded()

    def kill(self):
        self._end(self.running)

    def _end(self, process):
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    def end(self):
        for process in (self.running, self.standby):
            if process is not None and process.returncode is None:
                self._end(process)


@pytest.fixture
def servers():
    servers = Servers()
    yield servers
    servers.end()


class Load:
    """Threads that call without a pause; every call is right, or ends with an error of ours in its time."""

    def __init__(self, client, timeout_s):
        self.client, self.longest_s = client, 0.0
        self.right, self.errors, self.wrong = 0, [], []
        self._timeout_s, self._lock, self._over = timeout_s, threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(seed,)) for seed in range(3)]
        for thread in self._threads:
            thread.start()

    def _call(self, seed):
        random = np.random.default_rng(seed)
        while not self._over.is_set():
            pixels = random.integers(0, 256, (600, 4, 4, 1), np.uint8)
            began = time.monotonic()
            try:
                right = np.array_equal(self.client.encode(pixels), latents_of(pixels))
                with self._lock:
                    self.right += right
                    self.wrong += [] if right else ["wrong latents"]
            except ServerError as error:
                self.errors.append(error)
            except BaseException as error:
                self.wrong.append(error)
            with self._lock:
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def test_calls_bridge_a_kill_and_a_quick_restart(servers, connect):
    load = Load(connect(servers.port, timeout_s=30), 30)
    try:
        for _ in range(2):
            servers.load()
            before = load.right
            servers.kill()
            time.sleep(0.2)
            servers.start()
            until = time.monotonic() + 20
            while load.right < before + 10 and time.monotonic() < until:
                time.sleep(0.05)
    finally:
        load.end()
    assert (load.wrong, load.errors) == ([], [])
    assert load.right >= 20
    assert load.longest_s < 30


def test_a_call_waits_for_a_server_that_answered_before(servers, connect):
    client = connect(servers.port, timeout_s=30)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 4, 4, 1), np.uint8)
    client.encode(pixels)
    servers.load()
    servers.kill()
    threading.Timer(4.0, servers.start).start()  # longer than a server is asked that never answered
    np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))


def test_calls_to_a_server_that_stays_away_fail_by_name_and_in_time(servers, connect):
    load = Load(connect(servers.port, timeout_s=2), 2)
    try:
        servers.load()
        time.sleep(0.3)
        servers.kill()
        time.sleep(2.5)
        failed = len(load.errors)
        servers.start()
        before, until = load.right, time.monotonic() + 20
        while load.right < before + 5 and time.monotonic() < until:
            time.sleep(0.05)
        recovered = load.right - before
    finally:
        load.end()
    assert load.wrong == []
    assert failed >= 3  # each thread was told
    assert recovered >= 5
    assert load.longest_s < 2 + 5


def test_two_addresses_take_turns_and_one_is_enough(serve, connect, pixels):
    import scripted_server

    stays, goes = Script(), Script()
    port = serve(stays)
    server, other = scripted_server.start(goes)
    client = connect(f"ipv4:127.0.0.1:{port},127.0.0.1:{other}")
    until = time.monotonic() + 20
    while not (len(stays.requests) > 5 and len(goes.requests) > 5) and time.monotonic() < until:
        client.encode(pixels)
    assert len(stays.requests) > 5 and len(goes.requests) > 5
    server.stop(None).wait()
    seen = len(goes.requests)
    for _ in range(20):
        np.testing.assert_array_equal(client.encode(pixels), latents_of(pixels))
    assert len(goes.requests) == seen


@pytest.mark.parametrize("target", ["dns:///localhost:{}", "dns:localhost:{}", "localhost:{}", "ipv4:127.0.0.1:{}"])
def test_names_are_resolved(serve, connect, script, pixels, target):
    port = serve(script, "localhost:0")
    np.testing.assert_array_equal(connect(target.format(port)).encode(pixels), latents_of(pixels))


def test_a_unix_socket(serve, connect, script, tmp_path):
    serve(script, f"unix:{tmp_path}/socket")
    assert connect(f"unix:{tmp_path}/socket").describe().version == 3


@pytest.mark.parametrize("rows", [5, 5000])
def test_a_client_closed_while_it_waits(client, script, rows):
    client.describe()
    script.delay_s = 0.5
    images = np.zeros((rows, 4, 4, 1), np.uint8)
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(client.encode, images)
        while not script.asked_for("encode_uint8"):
            time.sleep(0.01)
        client.close()
        with pytest.raises(ServerUnavailableError, match="client was closed"):
            call.result()
    assert time.monotonic() - began < 10
    for use in (client.describe, client.status, lambda: client.encode(images), client.at_version(3).describe):
        with pytest.raises(ValueError, match="closed"):
            use()
    client.close()
