"""`ae-search index sync`."""

from ae_search.cli.connection import Connection, with_connection
from ae_search.cli.index.options import DryRun, SourceName, Wait, list_keys, tell_refused
from ae_search.cli.options import IndexPlace, SourceFlags, with_source_flags
from ae_search.cli.terminal import progress, say
from ae_search.indexing import SyncReport
from ae_search.open_index import open_index


@with_connection
@with_source_flags
def sync(
    connection: Connection,
    flags: SourceFlags,
    source: SourceName,
    index: IndexPlace,
    dry_run: DryRun = False,
    wait: Wait = 0.0,
) -> None:
    """Make the index hold what SOURCE holds: add new images, encode changed ones again, remove those that are gone.

    Changes are found by content. Where an index has several sources, only items of this one are touched. Searches
    see the changes block by block, removals last; if the command is killed, run it again. Nothing is removed while a
    part of SOURCE cannot be read. With --dry-run no server is asked. The exit code is 1 where the server refused images
    that can be decoded here.
    """
    from ae_search.indexing import sync_source

    images = flags.open(source)
    with open_index(index) as opened:
        encoder = None if dry_run else connection.encoder(opened.model.name)
        with progress("comparing" if dry_run else "syncing", len(images)) as advance:
            report = sync_source(images, encoder, opened, dry_run=dry_run, on_progress=advance, wait_s=wait)
        if dry_run:
            for what, keys in (("add", report.added), ("update", report.updated), ("remove", report.removed)):
                list_keys(what, keys)
        _tell(f"{index}: ", report, len(opened), dry_run=dry_run)
    tell_refused(report.refused, "ae-search", "index", "sync", source, "--index", index)


def _tell(index: str, report: SyncReport, items: int, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    say(
        f"{index}{len(report.added)} images {would}added, {len(report.updated)} {would}updated, "
        f"{len(report.removed)} {would}removed, {report.unchanged} unchanged, {len(report.damaged)} damaged images "
        f"left as they were; {items} in all",
        err=dry_run,
    )
    if report.kept:
        say(
            f"kept {len(report.kept)} items that are not in SOURCE and do not say where they came from, such as "
            f"{report.kept[0]}; `ae-search index remove` takes them out",
            err=True,
        )
    if report.others:
        say(f"passed over {report.others} images whose keys belong to items of another source of the index", err=True)
