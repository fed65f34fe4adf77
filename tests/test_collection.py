"""Two collections must name the same tests, or pytest-xdist stops with "Different tests were collected"."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def _collected(hash_seed: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return [line for line in run.stdout.splitlines() if "::" in line]


def test_collections_in_other_seconds_and_with_other_hash_seeds_name_the_same_tests():
    first, started = _collected("1"), int(time.time())
    assert len(first) > 1000
    while int(time.time()) == started:
        time.sleep(0.05)
    assert _collected("2") == first
