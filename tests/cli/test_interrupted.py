"""Ctrl-C: one line that says what the same command does next, exit code 130, and it does so."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import coloured_picture
from typer.main import get_command

from ae_search.cli import app
from ae_search.cli.interrupted import NEXT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("interrupted")
    for seed in range(300):
        file = place / "photos" / f"{seed}.png"
        file.parent.mkdir(exist_ok=True)
        coloured_picture(seed, (40, 30)).save(file)
    return place


def start(place, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "ae_search", *map(str, words)],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def interrupted(child, when):
    """Send SIGINT as soon as a condition holds; return the last line of its errors."""
    deadline = time.monotonic() + 240
    while not when():
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    return errors.splitlines()[-1]


@pytest.mark.slow
def test_a_training_goes_on_after_its_last_whole_epoch(place):
    run = place / "run"
    command = ["train", "photos", "--run", "run", "--image-size", "16x16", "--latent-dim", "4", "--patience", "0"]
    told = interrupted(start(place, *command, "--epochs", 500), (run / "backup" / "training_metadata.json").exists)
    assert told == "interrupted; the same command goes on after the last whole epoch"


def test_a_build_leaves_nothing(place, tiny_export):
    from ae_search.model_server import ModelServer

    with ModelServer(tiny_export) as server:
        child = start(place, "index", "build", "photos", "--index", "i", "--server", server.address, "--trees", 5_000)
        told = interrupted(child, lambda: list((place / "i").glob(".tmp-*/latents.f32")))
    assert told == "interrupted; the index is as it was before; the same command begins anew"
    assert not (place / "i").exists()


def test_every_command_that_writes_says_what_comes_next():
    def names(group, before=""):
        for name, command in group.commands.items():
            yield from names(command, f"{name} ") if hasattr(command, "commands") else [before + name]

    silent = {
        "query",
        "doctor",
        "drift",
        "serve",
        "web",
        "index info",
        "index verify",
        "index duplicates",
        "index warm",
    }
    assert set(names(get_command(app))) | {"index sync"} == silent | NEXT.keys()
