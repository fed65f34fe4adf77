"""Models to serve, and servers in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.datasets import CACHE

EXPORTS = CACHE / "exports"
MODELS = {"tutorial": (28, 28, 1), "conv": (28, 28, 1), "photos": (64, 64, 3)}
START_S = 120


def export_models() -> None:
    """Export seeded, untrained encoders: what they are worth does not matter here, what they cost does."""
    import keras

    from ae_search.export import export_encoder
    from ae_search.model import build_encoder

    for name, shape in MODELS.items():
        if not (EXPORTS / name / "1").exists():
            keras.utils.set_random_seed(1)
            architecture = "tutorial" if name == "tutorial" else "conv"
            export_encoder(build_encoder(shape, architecture=architecture), EXPORTS / name)


@dataclass(frozen=True)
class Served:
    """A server that runs.

    Attributes:
        address: Its gRPC address.
        process: Its process.
    """

    address: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used so far."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def served(base: Path, *options: str) -> Iterator[Served]:
    """Run `ae-search serve` on a model base path, as a user does."""
    command = [sys.executable, "-m", "ae_search", "-q", "serve", str(base), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        try:
            began = time.monotonic()
            line = process.stdout.readline()
            if not line.startswith("serving ") or time.monotonic() - began > START_S:
                raise RuntimeError(f"the server did not start: {line!r}")
            yield Served(line.split()[-1], psutil.Process(process.pid))
        finally:
            process.terminate()
            process.wait(60)
