"""`ae-search index build` and `rebuild`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import (
    Details,
    Deterministic,
    Jobs,
    OnDisk,
    Recall,
    SourceName,
    Wait,
    check_recall,
    forest_options,
    named_source,
    tell_refused,
)
from ae_search.cli.options import IndexPath, Only
from ae_search.cli.terminal import progress, say
from ae_search.contract import Encoder
from ae_search.data import Source
from ae_search.errors import ConfigurationError
from ae_search.index import LatentIndex
from ae_search.index.store.manifest import MAX_N_TREES
from ae_search.indexing import IndexReport


@with_connection
def build(
    connection: Connection,
    source: SourceName,
    index: IndexPath,
    only: Only = None,
    details: Details = None,
    trees: Annotated[int | None, typer.Option(min=1, max=MAX_N_TREES, help="Annoy trees.")] = None,
    recall: Recall = 0.98,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of Annoy's random planes.")] = 42,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    replace: Annotated[bool, typer.Option("--replace", help="Build anew what is in DIR.")] = False,
    wait: Wait = 0.0,
) -> None:
    """Fetch the latents of every image in SOURCE and write an index of them.

    The exit code is 1 where the server refused images that can be decoded here, which a server does that joined them
    with damaged ones of another client; `ae-search index add` with the same SOURCE tries them again.
    """
    check_recall(recall)
    images = named_source(source, only)
    options: dict[str, Any] = {"recall": recall, "seed": seed, "replace": replace, "wait_s": wait, "details": details}
    options |= forest_options(jobs, deterministic, on_disk)
    if trees is not None:
        options["n_trees"] = trees
    report = build_with_progress(images, connection.encoder(), index, options)
    _tell(index, report)
    tell_refused(report.refused, f"ae-search index add {source} --index {index}")


def build_with_progress(source: Source, encoder: Encoder, path: Path, options: dict[str, Any]) -> IndexReport:
    """Index a source while a progress bar runs on stderr."""
    from ae_search.indexing import index_source

    with progress("indexing", len(source)) as advance:
        return index_source(source, encoder, path, on_progress=advance, **options)


@with_connection
def rebuild(
    connection: Connection,
    index: IndexPath,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Where the images are; unless given, where they were indexed from."),
    ] = None,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out items whose image is gone or damaged.")
    ] = False,
    wait: Wait = 0.0,
) -> None:
    """Encode the same items with the model that is served now; readers go on with the old ones until it is done."""
    from ae_search.indexing import rebuild as rebuild_index

    with LatentIndex.open(index) as opened:
        names = sources or list(opened.snapshot().sources())
        old, count = opened.model, len(opened)
    if not names:
        raise ConfigurationError(f"{index} does not know where its images came from; name their SOURCE.")
    encoder = connection.encoder(old.name)
    card = encoder.describe()
    if card.fingerprint == old.fingerprint:
        say(f"{index} holds latents of this model already ({card.name} version {card.version}); nothing to do")
        return
    if not sources:
        say(f"reading the images from {', '.join(names)}", err=True)
    opened_sources = [named_source(name) for name in names]
    options = forest_options(jobs, deterministic, on_disk)
    with progress("rebuilding", count) as advance:
        report = rebuild_index(
            index, encoder, opened_sources, drop_missing=drop_missing, on_progress=advance, wait_s=wait, **options
        )
    _tell(index, report)


def _tell(index: Path, report: IndexReport) -> None:
    manifest = report.manifest
    say(
        f"{index}: {manifest.items} images of {manifest.model.name} version {manifest.model.version}, recall@10 "
        f"{manifest.recall:.3f} at effort {manifest.effort}, {len(report.damaged)} damaged images left out"
    )
