"""`ae-search evaluate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ae_search.calibration import stored
from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import SourceName
from ae_search.cli.options import IndexPlace, Only, SourceFlags, load_tensorflow, with_source_flags
from ae_search.cli.terminal import say, say_json
from ae_search.contract import Encoder, Index, ModelRef
from ae_search.data import Source
from ae_search.errors import ConfigurationError, ModelMismatchError
from ae_search.open_index import open_index
from ae_search.search import ImageSearch
from ae_search.views import Pixels

if TYPE_CHECKING:
    from ae_search.evaluation import Evaluation
    from ae_search.evaluation.measures.no_original import ScoredSearch
    from ae_search.evaluation.measures.reverse import FirstKeySearch
    from ae_search.evaluation.measures.samples import Reconstruct


class Alterations(StrEnum):
    """Which ways to alter indexed images."""

    EVERYDAY = "everyday"
    HARD = "hard"
    ALL = "all"


@with_connection
@with_source_flags
def evaluate(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    index: IndexPlace,
    databases: Annotated[
        list[str] | None,
        typer.Option(
            "--database",
            metavar="SOURCE",
            help="Source of the indexed images; by default, where they came from.",
        ),
    ] = None,
    only: Only = None,
    queries: Annotated[int, typer.Option(min=1, help="Number of queries, at most; the seed draws them.")] = 10_000,
    reverse: Annotated[int, typer.Option(min=0, help="Number of indexed images to alter; 0 for none.")] = 1_000,
    alterations: Annotated[
        Alterations,
        typer.Option(help="Ways to alter them: nine everyday ones, eleven harder ones, or all."),
    ] = Alterations.EVERYDAY,
    views: Annotated[
        bool,
        typer.Option(
            "--views/--no-views",
            help="Measure the strict reverse search with `query --views` as well; this takes minutes for 1,000 images.",
        ),
    ] = False,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines", help="Compare with pixels, gradients, colours and an untrained encoder."
        ),
    ] = True,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="EXPORT", help="Another export to compare with: the first ten neighbours in common, and precision."
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder of the model's training; shows its reconstructions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="HTML", help="Write a report with pictures.")] = None,
    projector: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write latents for TensorBoard's Embedding Projector.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed for everything that is drawn.")] = 0,
) -> None:
    """Measure how good an index is for the images of SOURCE: retrieval by label, strict reverse search, recall.

    A query that is itself an item of the index, whatever its key, does not count as its own neighbour.
    """
    _check_can_be_written(report, projector)
    images = flags.open(source, only)
    with open_index(index) as opened:
        encoder = connection.encoder(opened.model.name)
        places = _databases(opened, databases)
        load_tensorflow()
        # Before the work: an export that cannot be loaded is told at once.
        other = None if against is None else _exported(against, trust=connection.trust)
        from ae_search.evaluation.evaluate import evaluate as measure
        from ae_search.evaluation.measuring import MeasuringPlan

        result = measure(
            opened,
            encoder,
            images,
            places,
            plan=MeasuringPlan(queries, reverse, baselines, seed, alterations.value),
            searches=_with_views(encoder, opened) if views else None,
            scored=_scored_with_views(encoder, opened) if views else None,
            reconstruct=None if run is None else _autoencoder(run, opened.model),
            against=other,
        )
    _show(result, as_json=as_json)
    _write(result, report, projector)


def _show(result: "Evaluation", *, as_json: bool) -> None:
    if as_json:
        say_json(result.to_json())
        return
    from ae_search.cli.figures import print_figures

    print_figures(result)


def _write(result: "Evaluation", report: Path | None, projector: Path | None) -> None:
    if report is not None:
        from ae_search.evaluation.report import write_report

        write_report(result, report)
        say(f"wrote {report}", err=True)
    if projector is not None:
        from ae_search.evaluation.report.projector import write_projector

        write_projector(result, projector)
        say(f"wrote {projector}", err=True)


def _check_can_be_written(report: Path | None, projector: Path | None) -> None:
    """Tell before the work, not after it."""
    if projector is not None:
        from ae_search.evaluation.report.projector import check_free

        check_free(projector)
    if report is not None and (report.is_dir() or not report.absolute().parent.is_dir()):
        reason = "it is a folder" if report.is_dir() else f"there is no folder {report.parent}"
        raise ConfigurationError(f"Cannot write the report {report}: {reason}.")


def _with_views(encoder: Encoder, index: Index) -> "dict[str, FirstKeySearch]":
    """Return the search that `query --views` does, by its name in the tables."""
    search, model = ImageSearch(encoder, index), index.model

    def first_keys(images: Pixels) -> list[str]:
        return [row[0].key if row else "" for row in search.search_batch(list(images), views=True)]

    return {f"{model.name} version {model.version} with views": first_keys}


def _scored_with_views(encoder: Encoder, index: Index) -> "dict[str, ScoredSearch]":
    """Return the search that `query --originals` does, by the same name; none where the index is not calibrated."""
    from ae_search.evaluation.measures.no_original import Scored

    search, model = ImageSearch(encoder, index), index.model
    if stored(index) is None:
        say(f"{index.place} is not calibrated: no --originals to measure; `ae-search index tune` does it", err=True)
        return {}

    def scored(images: Pixels) -> list[list[Scored]]:
        rows = search.originals_batch(list(images), 2)
        return [[Scored(one.neighbour.key, one.neighbour.similarity, one.score) for one in row] for row in rows]

    return {f"{model.name} version {model.version} with views": scored}


def _exported(path: Path, *, trust: bool) -> Encoder:
    from ae_search.model_server import LocalEncoder

    return LocalEncoder(path, trust=trust)


def _databases(index: Index, named: list[str] | None) -> list[Source]:
    """Open the sources of the indexed images; one that was not named by the user may be gone."""
    if named:
        return [SourceFlags().open(name) for name in named]
    found: list[Source] = []
    for name in index.info().sources:
        try:
            found.append(SourceFlags().open(name))
        except ConfigurationError as error:
            say(f"{error} Name the indexed images by --database.", err=True)
    return found


def _autoencoder(run: Path, model: ModelRef) -> "Reconstruct":
    """Return what a training run's autoencoder makes of images.

    Raises:
        ConfigurationError: `run` is no finished training run.
        ModelMismatchError: Its encoder is not the index's.
    """
    import keras
    import numpy as np

    from ae_search.export import fingerprint
    from ae_search.training import load_autoencoder, read_config

    autoencoder = load_autoencoder(run)
    config = read_config(run)
    found = fingerprint(autoencoder.get_layer("encoder"), config.image_shape, fit=config.fit)
    if found != model.fingerprint:
        raise ModelMismatchError(
            f"{run} trained a model with fingerprint {found[:12]}, the index holds latents of {model.name} version "
            f"{model.version} (fingerprint {model.fingerprint[:12]}); name the run that this model was exported from."
        )

    encoder, decoder = autoencoder.get_layer("encoder"), autoencoder.get_layer("decoder")

    def reconstruct(images: np.ndarray) -> np.ndarray:
        logits = keras.ops.convert_to_numpy(decoder(encoder(images, training=False), training=False))
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), np.float32)

    return reconstruct
