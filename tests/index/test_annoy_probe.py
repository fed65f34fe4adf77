"""An Annoy that was compiled for another processor: a sentence, and not a process that is dead without a word.

A module that kills its process by the same signal stands in for machine code that this processor does not know.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from index_fixtures import build_at, clustered

from ae_search.index.engine import annoy_probe

OTHER = """
import os, signal

class AnnoyIndex:
    def __init__(self, dim, metric):
        with open({log!r}, "a") as log:
            log.write(f"{{os.getpid()}}\\n")
        os.kill(os.getpid(), signal.{signal})
"""
OPEN = """
import os, sys
from ae_search.errors import AeSearchError
from ae_search.index import LatentIndex
try:
    LatentIndex.open(sys.argv[1])
except AeSearchError as error:
    print(type(error).__name__, error)
print(os.getpid())
"""


@pytest.fixture
def path(tmp_path):
    return build_at(tmp_path / "index", clustered(50))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An environment in which Annoy dies by a signal, and the processes in which it did."""

    def install(name):
        log, folder = tmp_path / "died", tmp_path / "packages" / "annoy"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(OTHER.format(log=str(log), signal=name))
        root = str(Path(__file__).parents[2])
        variables = os.environ | {"PYTHONPATH": f"{folder.parent}{os.pathsep}{root}", "PYTHONSAFEPATH": "1"}
        return variables | {"XDG_CACHE_HOME": str(tmp_path / "cache")}, log

    return install


def run(words, environment):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, env=environment)


def test_another_processor_is_told_in_a_sentence_by_every_way_in(path, elsewhere):
    environment, log = elsewhere("SIGILL")
    for words in (["-c", OPEN, path], ["-m", "ae_search", "query", "--key", "key-1", "--index", path]):
        ended = run(list(map(str, words)), environment)
        assert "was compiled for another processor and cannot run on this one" in ended.stdout + ended.stderr
        assert "--no-cache-dir" in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.returncode in (0, 1)
    # It was tried in other processes than those that told it, and a failure is never remembered.
    assert len(log.read_text().split()) == 2
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1


def test_the_doctor_names_it(elsewhere):
    environment, _ = elsewhere("SIGILL")
    ended = run(["-m", "ae_search", "doctor", "--server", "127.0.0.1:1", "--json"], environment)
    (finding,) = [one for one in json.loads(ended.stdout) if one["check"] == "search engine"]
    assert finding["verdict"] == "wrong" and "another processor" in finding["told"]
    assert ended.returncode == 1


def test_what_was_tried_is_remembered_for_this_file_and_this_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    started = []
    real = subprocess.run
    monkeypatch.setattr(
        annoy_probe.subprocess, "run", lambda *args, **options: started.append(1) or real(*args, **options)
    )
    for _ in range(3):
        annoy_probe.check_annoy.cache_clear()
        annoy_probe.check_annoy()
    assert len(started) == 1
    other = tmp_path / "cpuinfo"
    other.write_text("flags\t\t: fpu sse sse2\n")
    monkeypatch.setattr(annoy_probe, "_PROCESSOR", other)
    annoy_probe.check_annoy.cache_clear()
    annoy_probe.check_annoy()
    assert len(started) == 2
    assert len(list((tmp_path / "ae-search" / "annoy").iterdir())) == 2


def test_without_a_cache_or_a_process_to_try_in_searches_go_on(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    annoy_probe.check_annoy.cache_clear()
    annoy_probe.check_annoy()
    monkeypatch.setattr(annoy_probe.sys, "executable", "")
    annoy_probe.check_annoy.cache_clear()
    annoy_probe.check_annoy()
