"""What the commands below `ae-search index` share."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from ae_search.cli.terminal import say
from ae_search.contract import ALL_CORES, Index, Resources, Where, parse_where
from ae_search.errors import ConfigurationError, NotSupportedError
from ae_search.index.options import (
    MAX_N_CELLS,
    MAX_N_TREES,
    AnnoyOptions,
    EngineOptions,
    FaissCodesOptions,
    FaissOptions,
    engine_options,
)
from ae_search.open_index import is_folder, is_milvus

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder, table (*.csv, *.parquet), tfrecord:GLOB, tfds:NAME/SPLIT, or built-in data set (fashion_mnist); "
        "also in an object store (gs://, s3://).",
    ),
]
WhereText = Annotated[
    str | None,
    typer.Option("--where", metavar="JSON", help='Only items such as \'{"label": "Bag", "price": {"lt": 20}}\'.'),
]
Match = Annotated[
    list[str] | None,
    typer.Option("--match", metavar="PATTERN", help="Only items whose keys match, such as 'cats/*'; repeatable."),
]
Wait = Annotated[
    float, typer.Option("--wait", min=0.0, metavar="SECONDS", help="Time to wait while another process writes DIR.")
]
MetadataLines = Annotated[
    Path | None,
    typer.Option("--metadata", metavar="JSONL", help='File of lines {"key": ..., "label": ..., "metadata": {...}}.'),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="Threads that build the index; all cores unless given.")]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="Build the same file from the same items each time, with one thread: about as many times slower as there "
        "are cores.",
    ),
]
OnDisk = Annotated[
    bool | None,
    typer.Option(
        "--on-disk/--in-memory",
        help="Build within the file, or in memory. Unless given: on disk what would take more than half of the free "
        "memory.",
    ),
]


class EngineName(StrEnum):
    """An engine, as it is named on the command line."""

    annoy = AnnoyOptions.engine
    faiss = FaissOptions.engine
    faiss_8bit = FaissCodesOptions.engine


EngineOption = Annotated[
    EngineName | None,
    typer.Option("--engine", help="Engine, annoy unless given; faiss is faster, and an extra. PostgreSQL has its own."),
]
MoveTo = Annotated[EngineName | None, typer.Option("--engine", help="Engine to move to; the same one unless given.")]
Trees = Annotated[int | None, typer.Option(min=1, max=MAX_N_TREES, help="Trees that Annoy grows; 40 unless given.")]
CellCount = Annotated[
    int | None,
    typer.Option("--cells", min=1, max=MAX_N_CELLS, help="Cells that faiss sorts into; 4 sqrt(items) unless given."),
]
IndexFields = Annotated[
    list[str] | None,
    typer.Option(
        "--index-field", metavar="NAME", help="Field of the metadata for --where to look up; repeatable, up to 16."
    ),
]
HalfVec = Annotated[
    bool,
    typer.Option("--halfvec", help="Build PostgreSQL's graph of latents in 16 bits: half its size."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; print what would be done, an item a line.")]
Recall = Annotated[float, typer.Option(help="Recall@10 that queries are tuned to, above 0 and up to 1.")]


def resources_of(jobs: int | None, deterministic: bool, on_disk: bool | None) -> Resources:
    """Return what a build may use of the machine.

    Raises:
        ConfigurationError: Several threads were asked for, and the same base each time.
    """
    if deterministic and jobs not in (None, 1):
        raise ConfigurationError(f"--deterministic is for one thread. Received: --jobs {jobs}.")
    if deterministic:
        say("deterministic: building with one thread, which takes longer", err=True)
    return Resources(1 if deterministic else jobs or ALL_CORES, on_disk)


def engine_options_at(
    index: str,
    engine: EngineName | None,
    *,
    trees: int | None,
    cells: int | None,
    halfvec: bool,
    deterministic: bool,
) -> EngineOptions:
    """Return the options of the engine that an index is to have.

    Raises:
        NotSupportedError: Some are those of another engine.
        ConfigurationError: The engine takes no such option.
    """
    if is_folder(index):
        if halfvec:
            raise NotSupportedError("--halfvec is for an index on PostgreSQL; a folder does without.")
        return engine_options(engine or EngineName.annoy, trees, cells)
    if engine is not None or trees is not None or cells is not None or deterministic:
        raise NotSupportedError(
            "--engine, --trees, --cells and --deterministic are for an index in a folder; PostgreSQL and Milvus have a "
            f"graph with levels by chance. Index: {index}."
        )
    if is_milvus(index):
        if halfvec:
            raise NotSupportedError(f"--halfvec is for an index on PostgreSQL; Milvus does without. Index: {index}.")
        from ae_search.remote_index.milvus import MilvusOptions

        return MilvusOptions()
    from ae_search.remote_index.postgres import HnswOptions

    return HnswOptions(halfvec=halfvec)


def check_recall(recall: float | None) -> None:
    """Check a recall.

    Raises:
        ConfigurationError: It is out of range.
    """
    if recall is not None and not 0 < recall <= 1:
        raise ConfigurationError(f"--recall must be above 0 and at most 1. Received: {recall}.")


def selected(keys: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the keys that match one of some patterns, as a shell has them; "*" stands for slashes too."""
    return [key for key in keys if any(fnmatchcase(key, pattern) for pattern in patterns)]


def parsed_where(text: str | None) -> Where | None:
    """Read --where.

    Raises:
        ConfigurationError: It is no filter.
    """
    if text is None:
        return None
    try:
        raw: Where = json.loads(text)
        parse_where(raw)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f'--where {text} is no JSON ({error}); an example: --where \'{{"label": "Bag"}}\'.'
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--where {text}: {error}") from error
    return raw


def chosen_keys(index: Index, where: str | None, patterns: Sequence[str]) -> list[str]:
    """Return the keys of the items that --where and --match choose; those of both where both are given."""
    keys = index.keys(where=parsed_where(where))
    return selected(keys, patterns) if patterns else keys


def list_keys(what: str, keys: Iterable[str]) -> None:
    """Print what would be done with some items, one a line."""
    for key in keys:
        say(f"{what} {key}")


def tell_refused(refused: Mapping[str, str], *again: str) -> None:
    """End with exit code 1 where the server refused images that can be decoded here.

    Args:
        refused: Key and reason of each.
        again: Words of the command that tries them again.
    """
    if not refused:
        return
    key, reason = next(iter(refused.items()))
    say(f"the server refused {len(refused)} images that can be decoded here, such as {key}: {reason}", err=True)
    say(f"`{shlex.join(again)}` tries them again", err=True)
    raise typer.Exit(1)
