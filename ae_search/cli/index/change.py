"""`ae-search index add`, `update`, `remove`, `compact` and `tune`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from ae_search.calibration import calibrate
from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import (
    Deterministic,
    DryRun,
    EngineName,
    IndexFields,
    Jobs,
    Match,
    MetadataLines,
    MoveTo,
    OnDisk,
    SourceName,
    Wait,
    WhereText,
    check_recall,
    chosen_keys,
    list_keys,
    resources_of,
    tell_refused,
)
from ae_search.cli.options import IndexPlace, Only, SourceFlags, Strict, tell_truncated, with_source_flags
from ae_search.cli.terminal import progress, say
from ae_search.contract import Index, Resources
from ae_search.errors import ConfigurationError
from ae_search.open_index import open_index
from ae_search.trust import BEYOND, UNLIKE, remember


@with_connection
@with_source_flags
def add(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    index: IndexPlace,
    only: Only = None,
    metadata: MetadataLines = None,
    strict: Strict = False,
    wait: Wait = 0.0,
) -> None:
    """Add the images of SOURCE that the index does not have yet, including any that were left out before.

    Images whose files have changed under the same key are counted, not encoded again; `ae-search index sync` does that.
    The exit code is 1 where the server refused images that can be decoded here.
    """
    from ae_search.indexing import add_source

    images = flags.open(source, only)
    with open_index(index) as opened:
        encoder = connection.encoder(opened.model.name)
        with progress("adding", len(images)) as advance:
            report = add_source(
                images, encoder, opened, metadata=metadata, strict=strict, on_progress=advance, wait_s=wait
            )
        say(
            f"{index}: {report.changed} images added, {report.passed_over} were there already, "
            f"{len(report.damaged)} damaged images left out; {len(opened)} in all"
        )
    tell_truncated(report.truncated)
    if report.outdated:
        changed = f"changed under the same key: {len(report.outdated)}, such as {report.outdated[0]}"
        again = shlex.join(["ae-search", "index", "sync", source, "--index", index])
        say(f"{changed}; `{again}` encodes them", err=True)
    tell_refused(report.refused, "ae-search", "index", "add", source, "--index", index)


@with_connection
@with_source_flags
def update(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    index: IndexPlace,
    where: WhereText = None,
    match: Match = None,
    metadata: MetadataLines = None,
    strict: Strict = False,
    wait: Wait = 0.0,
) -> None:
    """Encode again the images of SOURCE that the index has, changed or not; only some by --where and --match.

    `ae-search index sync` finds those that have changed. The exit code is 1 where the server refused images that can
    be decoded here.
    """
    from ae_search.indexing import update_source

    images = flags.open(source)
    with open_index(index) as opened:
        among = set(chosen_keys(opened, where, match or ())) if where is not None or match else None
        encoder = connection.encoder(opened.model.name)
        with progress("updating", len(images)) as advance:
            report = update_source(
                images, encoder, opened, among=among, metadata=metadata, strict=strict, on_progress=advance, wait_s=wait
            )
        others = "are not in it" if among is None else "are not in it or were not chosen"
        say(
            f"{index}: {report.changed} images updated, {report.passed_over} {others}, "
            f"{len(report.damaged)} damaged images left as they were; {len(opened)} in all"
        )
    tell_truncated(report.truncated)
    tell_refused(report.refused, "ae-search", "index", "update", source, "--index", index)


def remove(
    index: IndexPlace,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys of items.")] = None,
    keys_from: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Text file of more keys, one a line.")
    ] = None,
    where: WhereText = None,
    match: Match = None,
    dry_run: DryRun = False,
    wait: Wait = 0.0,
) -> None:
    """Take items out of the index: all of those named, or none if it lacks one of them; or those chosen.

    --where and --match choose items; with both, those that meet both.
    """
    named = list(keys or [])
    if keys_from is not None:
        from ae_search.exchange import read_keys

        named += read_keys(keys_from)
    choosing = where is not None or bool(match)
    if bool(named) == choosing:
        raise ConfigurationError(
            "Name at least one KEY, or a file of them by --keys; or choose items by --where and --match, not both."
        )
    with open_index(index) as opened:
        if choosing:
            named = chosen_keys(opened, where, match or ())
        if dry_run:
            list_keys("remove", named)
            say(f"{index}: {len(named)} items would be removed; {len(opened)} in all", err=True)
            return
        if named:
            opened.remove(named, wait_s=wait)
        say(f"{index}: {len(named)} items removed; {len(opened)} in all")


def compact(
    index: IndexPlace,
    engine: MoveTo = None,
    index_field: IndexFields = None,
    jobs: Jobs = None,
    deterministic: Deterministic = False,
    on_disk: OnDisk = None,
    wait: Wait = 0.0,
) -> None:
    """Fold all that was added and removed into a new generation, with another engine by --engine; readers go on.

    --index-field names all the fields that filters shall look up; unless given, they stay as they are.
    """
    resources = resources_of(jobs, deterministic, on_disk)
    with open_index(index) as opened:
        fold(index, opened, resources, engine=engine, fields=index_field or None, wait_s=wait)


def fold(
    index: str,
    opened: Index,
    resources: Resources,
    *,
    engine: EngineName | None,
    fields: Sequence[str] | None = None,
    wait_s: float = 0.0,
) -> None:
    """Compact an index, and tell what it is by now."""
    before = opened.info()
    opened.compact(resources, engine=engine, fields=fields, wait_s=wait_s)
    after = opened.info()
    if before.generation != after.generation:
        remember(opened, wait_s=wait_s)
    if before.generation == after.generation:
        say(f"{index}: nothing was added or removed since the index was built; nothing to do")
    else:
        say(f"{index}: {after.items} items in {after.generation}, {after.engine}, recall@10 {after.recall:.3f}")


def tune(
    index: IndexPlace,
    recall: Annotated[
        float | None, typer.Option(help="Recall@10 to reach, above 0 and up to 1; unless given, as before.")
    ] = None,
    wait: Wait = 0.0,
) -> None:
    """Measure recall again, choose how much work a query does, and measure what is an original and what is usual."""
    check_recall(recall)
    with open_index(index) as opened:
        info = opened.tune(recall, wait_s=wait)
        calibration = calibrate(opened, wait_s=wait)
        usual = remember(opened, wait_s=wait)
    for point in info.recall_curve:
        chosen = "  <- used" if point.effort == info.effort else ""
        say(
            f"effort {point.effort:9d}   recall@10 {point.recall:.4f} +- {point.error:.4f}   "
            f"{point.latency_ms:8.3f} ms{chosen}"
        )
    if calibration is None:
        say(f"{index} holds too few items to tell an original from others", err=True)
    else:
        say(f"originals: probably from score {calibration.probable:.3f}, this is it from {calibration.certain:.3f}")
    if usual is not None and len(usual.distances):
        far = float(np.quantile(usual.distances, BEYOND))
        say(f"trust: a query is {UNLIKE} where its tenth neighbour is farther than {far:.3f}")
    if info.recall < info.target_recall:
        say(f"{index} cannot reach {info.target_recall}; build it with more --trees", err=True)
