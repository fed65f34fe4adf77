"""`ae-search index export` and `import`."""

from pathlib import Path
from typing import Annotated

import typer

from ae_search.calibration import calibrate
from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import (
    CellCount,
    Deterministic,
    EngineOption,
    HalfVec,
    IndexFields,
    Jobs,
    OnDisk,
    Recall,
    Trees,
    Wait,
    check_recall,
    engine_options_at,
    resources_of,
)
from ae_search.cli.options import IndexPlace
from ae_search.cli.terminal import progress, say
from ae_search.index import BuildOptions
from ae_search.open_index import build_index, open_index
from ae_search.trust import remember


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="*.parquet, or *.jsonl for other engines.")],
    index: IndexPlace,
) -> None:
    """Write keys and latents of all items to FILE."""
    with open_index(index) as opened, progress("exporting", len(opened)) as advance:
        count = opened.export(file, on_progress=advance)
    say(f"wrote {file}: {count} items")


@with_connection
def import_(
    context: typer.Context,
    connection: Connection,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="*.parquet with key and latent, a folder of them, or *.npy.")
    ],
    index: IndexPlace,
    keys: Annotated[
        Path | None, typer.Option(metavar="TXT", help="File with one key a line, for *.npy; row numbers unless given.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="Metric, angular or euclidean; the model's unless given.")] = None,
    engine: EngineOption = None,
    trees: Trees = None,
    cells: CellCount = None,
    index_field: IndexFields = None,
    halfvec: HalfVec = False,
    recall: Recall = 0.98,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the index that is in DIR.")] = False,
    wait: Wait = 0.0,
) -> None:
    """Build an index of latents that were made elsewhere.

    Name the model that made them by --server or --model, if it is one of ae-search's; without it, the index can be
    searched by key and by latent, but not by image.
    """
    from ae_search.errors import ConfigurationError
    from ae_search.exchange import import_latents

    check_recall(recall)
    # A server that is only in the environment need not be the one that made these latents.
    source = context.get_parameter_source("server")
    named = connection.model is not None or (source is not None and source.name == "COMMANDLINE")
    card = connection.encoder().describe() if named else None
    options = BuildOptions(
        engine_options_at(index, engine, trees=trees, cells=cells, halfvec=halfvec, deterministic=deterministic),
        recall=recall,
        replace=replace,
        resources=resources_of(jobs, deterministic, on_disk),
        wait_s=wait,
        fields=tuple(index_field or ()),
    )
    try:
        import_latents(file, lambda origin: build_index(index, origin, options), keys=keys, model=card, metric=metric)  # type: ignore[arg-type]
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{file}: {error}") from error
    with open_index(index) as opened:
        calibrate(opened, card=card, wait_s=wait)
        remember(opened, wait_s=wait)
        info = opened.info()
    say(
        f"{index}: {info.latents} latents of {info.latent_dim} floats, model {info.model.name}, recall@10 "
        f"{info.recall:.3f} at effort {info.effort}"
    )
