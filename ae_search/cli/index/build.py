"""`ae-search index build` and `rebuild`."""

from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.change import fold
from ae_search.cli.index.options import (
    CellCount,
    Deterministic,
    EngineOption,
    HalfVec,
    IndexFields,
    Jobs,
    MetadataLines,
    MoveTo,
    OnDisk,
    Recall,
    SourceName,
    Trees,
    Wait,
    check_recall,
    engine_options_at,
    resources_of,
    tell_refused,
)
from ae_search.cli.options import IndexPlace, Only, SourceFlags, Strict, tell_truncated, with_source_flags
from ae_search.cli.terminal import progress, say
from ae_search.contract import Encoder
from ae_search.data import Source
from ae_search.errors import ConfigurationError
from ae_search.index import BuildOptions
from ae_search.indexing import IndexReport
from ae_search.open_index import open_index


@with_connection
@with_source_flags
def build(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    index: IndexPlace,
    only: Only = None,
    metadata: MetadataLines = None,
    engine: EngineOption = None,
    trees: Trees = None,
    cells: CellCount = None,
    index_field: IndexFields = None,
    halfvec: HalfVec = False,
    recall: Recall = 0.98,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the random choices.")] = 42,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    strict: Strict = False,
    regions: Annotated[
        bool,
        typer.Option(
            "--regions",
            help="Hold latents of 18 parts of each image as well, so that `query --originals` and `query --views` find "
            "copies of parts of images. Takes 19 times as long, and 19 times the room.",
        ),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the index that is in DIR.")] = False,
    wait: Wait = 0.0,
) -> None:
    """Fetch the latents of every image in SOURCE and write an index of them.

    The exit code is 1 where the server refused images that can be decoded here, which a server does that joined them
    with damaged ones of another client; `ae-search index add` with the same SOURCE tries them again.
    """
    check_recall(recall)
    images = flags.open(source, only)
    options = BuildOptions(
        engine_options_at(index, engine, trees=trees, cells=cells, halfvec=halfvec, deterministic=deterministic),
        seed,
        recall,
        replace,
        resources_of(jobs, deterministic, on_disk),
        wait,
        tuple(index_field or ()),
    )
    report = build_with_progress(
        images, connection.encoder(), index, options, metadata=metadata, strict=strict, regions=regions
    )
    _tell(index, report)
    tell_refused(report.refused, "ae-search", "index", "add", source, "--index", index)


def build_with_progress(
    source: Source,
    encoder: Encoder,
    place: str | Path,
    options: BuildOptions,
    *,
    metadata: Path | None = None,
    strict: bool = False,
    regions: bool = False,
) -> IndexReport:
    """Index a source while a progress bar runs on stderr."""
    from ae_search.indexing import index_source

    with progress("indexing", len(source)) as advance:
        return index_source(
            source,
            encoder,
            place,
            options,
            metadata=metadata,
            strict=strict,
            regions=regions,
            on_progress=advance,
        )


@with_connection
@with_source_flags
def rebuild(
    connection: Connection,
    flags: SourceFlags,
    index: IndexPlace,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...", help="Source of the images; unless given, the one they were indexed from."
        ),
    ] = None,
    engine: MoveTo = None,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave out items whose image is gone or damaged.")
    ] = False,
    wait: Wait = 0.0,
) -> None:
    """Encode the same items with the model that is served now; readers go on with the old ones until it is done.

    With --engine, an index that has this model's latents already moves to the other engine, and nothing is encoded.
    """
    from ae_search.indexing import rebuild as rebuild_index

    with open_index(index) as opened:
        names = sources or list(opened.info().sources)
        if not names:
            raise ConfigurationError(f"{index} does not know where its images came from; name their SOURCE.")
        encoder = connection.encoder(opened.model.name)
        card = encoder.describe()
        resources = resources_of(jobs, deterministic, on_disk)
        if card.fingerprint == opened.model.fingerprint:
            if engine is not None and engine != opened.info().engine:
                fold(index, opened, resources, engine=engine, wait_s=wait)
                return
            say(f"{index} holds latents of this model already ({card.name} version {card.version}); nothing to do")
            return
        if not sources:
            say(f"reading the images from {', '.join(names)}", err=True)
        images = [(flags if sources else SourceFlags()).open(name) for name in names]
        with progress("rebuilding", len(opened)) as advance:
            report = rebuild_index(
                opened,
                encoder,
                images,
                resources,
                engine=engine,
                drop_missing=drop_missing,
                on_progress=advance,
                wait_s=wait,
            )
    _tell(index, report)


def _tell(index: str, report: IndexReport) -> None:
    info = report.info
    say(
        f"{index}: {info.items} images of {info.model.name} version {info.model.version}, recall@10 "
        f"{info.recall:.3f} at effort {info.effort}, {len(report.damaged)} damaged images left out"
    )
    tell_truncated(report.truncated)
