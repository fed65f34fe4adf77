"""`ae-search demo`: the main job, from nothing to the most similar images."""

import json
import queue
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ae_search.cli.options import index_option, load_tensorflow
from ae_search.cli.terminal import say, show_table
from ae_search.errors import ConfigurationError, ServerUnavailableError
from ae_search.files import write_atomically

if TYPE_CHECKING:
    from ae_search.contract import Index

QUERIES = 1000
PICTURED = 8
TRAINING_S = 110.0
SERVER_START_S = 120.0


def demo(
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Working folder.")] = Path("demo"),
    training_s: Annotated[float, typer.Option(metavar="SECONDS", help="Approximate training time.")] = TRAINING_S,
    source: Annotated[
        str | None, typer.Option(help="Data set: fashion_mnist, or digits (the default without a network).")
    ] = None,
    index: Annotated[str | None, index_option("Place of the index; DIR/index unless given.")] = None,
) -> None:
    """Train, export, serve, index and query Fashion-MNIST; print figures and draw pictures."""
    load_tensorflow()
    name = source or _obtainable_source()
    model = "fashion" if name == "fashion_mnist" else name
    run, export, index = folder / "run", folder / "export" / model, index or str(folder / "index")
    _check_same_source(run, name)
    seconds: dict[str, float] = {}
    with _timed(seconds, "training"):
        _train(name, run, training_s)
    with _timed(seconds, "export"):
        version = _export(run, export)
    with _timed(seconds, "server start"):
        server, address = _start_server(export)
    try:
        with _timed(seconds, "indexing"):
            images_per_s = _index(name, address, model, index)
        with _timed(seconds, "queries"):
            figures = _query(name, address, model, index, folder)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
    pictures = [folder / "reconstructions.png", folder / "neighbours.png"]
    write_atomically(pictures[0], (run / "reconstructions.png").read_bytes())
    summary = {"source": name, "version": version, "seconds": seconds, "images_per_s": images_per_s, **figures}
    _finish(summary, folder, pictures, export, index)


def _obtainable_source() -> str:
    from ae_search.data.builtin import DownloadError, load_builtin

    try:
        load_builtin("fashion_mnist", "test")
    except DownloadError as error:
        say(f"{error} The demo runs on scikit-learn's bundled digits instead.", err=True)
        return "digits"
    return "fashion_mnist"


def _check_same_source(run: Path, name: str) -> None:
    if not run.exists() or not any(run.iterdir()):
        return
    from ae_search.training import read_config

    begun = read_config(run).source
    if begun != f"{name}/train":
        raise ConfigurationError(
            f"{run.parent} holds a demo of {begun}, this one would be of {name}; give another --dir or remove it."
        )


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    say(f"— {stage}", err=True)
    began = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - began, 2)


def _train(name: str, run: Path, training_s: float) -> None:
    from ae_search.cli.train import run_training

    if (run / "summary.json").exists() and (run / "reconstructions.png").exists():
        say(f"reusing {run}", err=True)
        return
    from ae_search.training import TrainingOptions

    # Far more epochs than fit: the time limit ends it.
    run_training(name, run, TrainingOptions(epochs=40, time_limit_s=training_s))


def _export(run: Path, export: Path) -> int:
    """Export the run's encoder unless the newest version is it already; return the version."""
    from ae_search.cli.export import export_run
    from ae_search.export import fingerprint, versions
    from ae_search.model_server import LocalEncoder
    from ae_search.training import load_autoencoder, read_config

    there = versions(export)
    if there:
        wanted = fingerprint(load_autoencoder(run).get_layer("encoder"), read_config(run).image_shape)
        card = LocalEncoder(export).describe()
        if card.fingerprint == wanted and card.decodes:
            say(f"reusing {export / str(there[-1])}", err=True)
            return there[-1]
    return int(export_run(run, export).name)


def _start_server(export: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the embedded model server on a free port in a process of its own."""
    command = [sys.executable, "-m", "ae_search", "serve", str(export), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: lines.put(server.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    try:
        line = lines.get(timeout=SERVER_START_S)
    except queue.Empty:
        line = f"it said nothing within {SERVER_START_S:g} s"
    match = re.search(r" on (\S+:\d+)", line)
    if not match:
        server.kill()
        server.wait()
        reader.join()
        server.stdout.close()
        raise ServerUnavailableError(f"The model server did not start: {line.strip() or 'see its message above'}.")
    return server, match[1]


def _index(name: str, address: str, model: str, index: str) -> float | None:
    """Index the training images over gRPC unless that is done already; return images a second."""
    from ae_search.cli.index.build import build_with_progress
    from ae_search.client import LatentClient
    from ae_search.data import open_source
    from ae_search.index import BuildOptions

    with LatentClient(address, model) as client:
        if there := _opened(index):
            with there as opened:
                if opened.model.fingerprint == client.describe().fingerprint:
                    say(f"reusing {index}", err=True)
                    return None
        source = open_source(f"{name}/train")
        began = time.monotonic()
        report = build_with_progress(source, client, index, BuildOptions(replace=there is not None))
        say(
            f"{report.info.items} images, recall@10 {report.info.recall:.3f}; seconds by stage: "
            + ", ".join(f"{stage} {spent:.1f}" for stage, spent in report.seconds.items()),
            err=True,
        )
        return round(report.info.items / (time.monotonic() - began), 1)


def _opened(index: str) -> "Index | None":
    """Open the index of an earlier demo, None where there is none."""
    from ae_search.open_index import is_folder, open_index

    if not is_folder(index):
        with suppress(ConfigurationError):
            return open_index(index)
        return None
    return open_index(index) if (Path(index) / "CURRENT").exists() else None


def _query(name: str, address: str, model: str, index: str, folder: Path) -> dict[str, Any]:
    """Query with test images, draw neighbours.png, and save a few queries as files to go on with."""
    import numpy as np

    from ae_search.client import LatentClient
    from ae_search.data import ArraySource, open_source
    from ae_search.evaluation import evaluate_queries
    from ae_search.image_file import pixels_to_png
    from ae_search.open_index import open_index
    from ae_search.plots import Picture, picture_of, plot_neighbours
    from ae_search.search import ImageSearch

    test = open_source(f"{name}/test")
    assert isinstance(test, ArraySource)
    chosen = np.random.default_rng(0).permutation(len(test))[:QUERIES]
    labels = [test.labels[i] for i in chosen]
    with LatentClient(address, model) as client, open_index(index) as opened:
        result = evaluate_queries(ImageSearch(client, opened).search, test.images[chosen], labels)
        queries = [Picture(test.images[i], test.labels[i] or "") for i in chosen[:PICTURED]]
        rows = [
            [picture_of(opened.thumbnail(n.key), n.label or "") for n in found]
            for found in result.neighbours[:PICTURED]
        ]
        plot_neighbours(queries, rows, folder / "neighbours.png")
    (folder / "queries").mkdir(exist_ok=True)
    for i in chosen[:PICTURED]:
        write_atomically(folder / "queries" / f"test-{i}.png", pixels_to_png(test.images[i]))
    return {
        "queries": result.queries,
        "precision_at_10": round(result.precision_at_k, 4),
        "precision_at_10_by_label": {label: round(p, 4) for label, p in result.precision_by_label.items()},
        "median_ms": round(result.median_ms, 3),
        "p99_ms": round(result.p99_ms, 3),
    }


def _finish(summary: dict[str, Any], folder: Path, pictures: list[Path], export: Path, index: str) -> None:
    """Write summary.json, and print the table and what to do next."""
    from ae_search.training.run_folder import read_summary

    run = read_summary(folder / "run")
    summary["epochs"], summary["loss"] = run["epochs"], round(run["loss"], 4)
    if summary["images_per_s"] is None and (folder / "summary.json").exists():
        # The index is the one of an earlier demo, and so is its speed.
        summary["images_per_s"] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["images_per_s"]
    write_atomically(folder / "summary.json", json.dumps(summary, indent=2))
    _show(summary)
    example = next(iter(sorted((folder / "queries").glob("*.png"))))
    tool = Path(sys.argv[0]) if Path(sys.argv[0]).name == "ae-search" else Path("ae-search")

    def command(*words: Path | str) -> str:
        return f"  {shlex.join(map(str, (tool, *words)))}"

    for line in (
        *(f"wrote {path}" for path in [*pictures, folder / "summary.json"]),
        "Go on with:",
        command("serve", export, "--port", "8500"),
        command("query", example, "--index", index, "--server", "127.0.0.1:8500", "--plot", "neighbours.png"),
        command("train", "FOLDER_OF_PHOTOS", "--run", "runs/photos"),
        "Look at it on a page, in your browser (in a checkout: make web):",
        command("web", "--index", index, "--model", export),
    ):
        say(line)


def _show(summary: dict[str, Any]) -> None:
    title = f"{summary['source']}, {summary['epochs']} epochs, loss {summary['loss']}"
    rows = [
        *((f"{stage}, seconds", f"{seconds:.1f}") for stage, seconds in summary["seconds"].items()),
        ("images a second indexed", f"{summary['images_per_s']}"),
        (f"precision@10 over {summary['queries']} test queries", f"{summary['precision_at_10']:.3f}"),
        *((f"  {label}", f"{value:.3f}") for label, value in summary["precision_at_10_by_label"].items()),
        ("query latency, median / p99 ms", f"{summary['median_ms']:.2f} / {summary['p99_ms']:.2f}"),
    ]
    show_table(title, ("figure", "value"), rows)
