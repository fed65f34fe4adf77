"""Encoders that the benchmark trains: once for each configuration and state of the code, kept below `bench/.cache/`."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ae_search.contract import Latents
from bench.datasets import CACHE
from bench.pictures import Protocol, pictures, with_labels
from bench.progress import in_fresh_process, progress

TRAININGS = CACHE / "trainings"
PACKAGE = Path(__file__).parents[1] / "ae_search"
# What an encoder depends on, and what its figures depend on.
TRAINED_BY = ("data", "model", "training", "nearest", "principal.py")
MEASURED_BY = ("evaluation", "nearest", "search", "views.py")
PACKAGES = ("keras", "numpy", "tensorflow")


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        protocol: Whose database it is trained on.
        options: Fields of `TrainingOptions`.
        epochs: Epochs; None for the default.
        times: Factor that the epochs are multiplied by, above 0.
        labelled: Share of the images in [0, 1] whose label is told.
    """

    protocol: Protocol
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    times: float = 1.0
    labelled: float = 1.0

    def configure(self, source: Any) -> Any:
        """Return the configuration for the images of a source."""
        from ae_search.training import TrainingOptions, configure

        options = TrainingOptions(**self.options)
        if self.epochs is not None:
            options = replace(options, epochs=self.epochs)
        config = configure(source, options)
        if self.times == 1.0:
            return config
        return configure(source, replace(options, epochs=max(1, round(self.times * config.epochs))))

    def key(self) -> str:
        """Return a name that changes with the training and with the code."""
        return digest(TRAINED_BY, json.dumps(asdict(self), sort_keys=True))


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        folder: Where its arrays and its exported encoder lie.
        about: Its configuration; `seconds` of wall time for the whole of it; `epochs`; `loss`.
    """

    folder: Path
    about: dict[str, Any]

    def items(self) -> Latents:
        """Return the latents of the database, float32 `[n, d]`."""
        latents: Latents = np.load(self.folder / "items.npy")
        return latents

    def queries(self) -> Latents:
        """Return the latents of the queries, float32 `[q, d]`."""
        latents: Latents = np.load(self.folder / "queries.npy")
        return latents

    @property
    def export(self) -> Path:
        """Model base path of the exported encoder."""
        return self.folder / "export"

    def kept(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Return figures of this encoder; they are measured unless that was done before by the same code."""
        path = self.folder / f"{name}-{digest(MEASURED_BY)}.json"
        if not path.exists():
            path.write_text(json.dumps(measure()), encoding="utf-8")
        figures: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return figures


def digest(parts: Sequence[str], told: str = "") -> str:
    """Return a digest of rooms and modules of the package, of what it is built on, and of what else is told."""
    code = hashlib.sha256(" ".join([told, *map(version, PACKAGES)]).encode())
    for part in parts:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            code.update(file.read_bytes())
    return code.hexdigest()[:12]


def trained(training: Training) -> Trained:
    """Return what a training left; it is run in a process of its own, unless that was done before."""
    folder = TRAININGS / training.key()
    if not folder.exists():
        progress(f"training {_told(training)}")
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        in_fresh_process(_train, training, unfinished)
        unfinished.rename(folder)
    return Trained(folder, json.loads((folder / "about.json").read_text(encoding="utf-8")))


def default_config(protocol: Protocol) -> dict[str, Any]:
    """Return the configuration of the default recipe; run it in a process of its own."""
    return asdict(Training(protocol).configure(protocol.sources()[0]))


def _told(training: Training) -> str:
    told = dict(training.options)
    if training.epochs is not None:
        told["epochs"] = training.epochs
    if training.times != 1.0:
        told["times the epochs"] = round(training.times, 3)
    if training.labelled != 1.0:
        told["labelled"] = training.labelled
    given = ", ".join(f"{name}={value}" for name, value in told.items()) or "default recipe"
    return f"on {training.protocol.split}: {given}"


def _train(training: Training, folder: Path) -> None:
    from ae_search.cli.options import load_tensorflow

    load_tensorflow()
    from ae_search.export import export_encoder
    from ae_search.model_server import LocalEncoder
    from ae_search.training import load_autoencoder, train

    database, queries = training.protocol.sources()
    if training.labelled < 1.0:
        database = with_labels(database, training.labelled, seed=0)
    config, run = training.configure(database), folder / "run"
    began = time.perf_counter()
    summary = train(database, config, run, verbose=False)
    seconds = time.perf_counter() - began
    encoder = LocalEncoder(export_encoder(load_autoencoder(run).get_layer("encoder"), folder / "export"))
    for name, source in (("items", database), ("queries", queries)):
        np.save(folder / f"{name}.npy", encoder.encode(pictures(source, config.image_shape)[0]))
    about = {"config": asdict(config), "seconds": seconds, "epochs": summary["epochs"], "loss": summary["loss"]}
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    shutil.rmtree(run)
    progress(f"  {summary['epochs']} epochs in {seconds:.0f} s, loss {summary['loss']:.4f}")
