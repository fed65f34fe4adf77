"""`ae-search index info`, `warm`, `verify` and `duplicates`."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from ae_search.cli.index.options import Wait
from ae_search.cli.options import IndexPlace
from ae_search.cli.terminal import progress, say, say_json
from ae_search.contract import Index
from ae_search.data import open_source
from ae_search.data.sources import source_name
from ae_search.errors import ConfigurationError
from ae_search.open_index import open_index, verify_index

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def info(
    index: IndexPlace,
    as_json: AsJson = False,
    moved: Annotated[
        str | None,
        typer.Option(
            "--set-source",
            metavar="OLD=NEW",
            help="Tell first that the images of the source OLD, as it is printed, lie in NEW by now.",
        ),
    ] = None,
    wait: Wait = 0.0,
) -> None:
    """Print what the index holds, and whether it is time to compact it."""
    with open_index(index) as opened:
        if moved is not None:
            _set_source(opened, moved, wait)
        figures = opened.info()
    if as_json:
        say_json(json.dumps(asdict(figures), indent=2))
        return
    model = figures.model
    shape = " x ".join(map(str, figures.image_shape)) if figures.image_shape else "a shape not known"
    options = ", ".join(f"{name} {value}" for name, value in figures.engine_options.items())
    rows = {
        "index": f"{figures.place}, {figures.generation}, {figures.bytes / 1e6:.1f} MB",
        "items": f"{figures.items}: {figures.in_base} in the base, {figures.added} added, "
        f"{figures.removed} removed since",
        "model": f"{model.name} version {model.version}, fingerprint {model.fingerprint[:12]}, takes images of {shape}",
        "latents": f"{figures.latents} of {figures.latent_dim} floats, {figures.metric}",
        "engine": f"{figures.engine}, {options}, built {figures.created}",
        "recall@10": f"{figures.recall:.4f} at effort {figures.effort}, asked for {figures.target_recall}",
        "sources": ", ".join(figures.sources) or "not known",
        "look-ups": ", ".join(("key", "label", *figures.fields)),
    }
    for name, text in rows.items():
        say(f"{name:<10} {text}")
    because = figures.compact_because
    say(f"{'compact':<10} " + (f"worth it: {because}" if because else "not worth it yet"))


def _set_source(index: Index, moved: str, wait_s: float) -> None:
    known = index.info().sources
    old = next((name for name in known if moved.startswith(f"{name}=")), None)
    if old is None:
        raise ConfigurationError(
            f"--set-source takes OLD=NEW, OLD being one of the index's sources: {', '.join(known) or 'none is known'}. "
            f"Received: {moved}."
        )
    source = open_source(moved.removeprefix(f"{old}="))
    there = sum(source.position(key) is not None for key in index.keys())
    index.rename_source(old, source_name(source), wait_s=wait_s)
    say(f"{source_name(source)} has images of {there} of {len(index)} items", err=True)


def warm(index: IndexPlace) -> None:
    """Read what searches need into the page cache; after a reboot the first queries wait for the disk otherwise."""
    with open_index(index) as opened:
        start = time.perf_counter()
        read = opened.warm()
    say(f"{index}: {read / 1e6:.1f} MB read in {time.perf_counter() - start:.1f} s")


def verify(index: IndexPlace, as_json: AsJson = False) -> None:
    """Check every digest, both databases, all counts, and a sample of latents against the base.

    What was added since the index was built has no digest until it is compacted: there, a flipped bit within a text or
    a latent can go unnoticed.
    """
    checks = verify_index(index)
    if as_json:
        say_json(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        for one in checks:
            say(f"{'ok    ' if one.fault is None else 'FAULT '} {one.what}")
            if one.fault is not None:
                say(f"       {one.fault}", err=True)
    if faults := sum(one.fault is not None for one in checks):
        say(f"error: {index} is damaged ({faults} of {len(checks)} checks failed)", err=True)
        raise typer.Exit(1)


def duplicates(
    index: IndexPlace,
    similarity: Annotated[
        float | None,
        typer.Option(
            help="Least cosine similarity that counts as almost the same, above 0 and up to 1; unless given, it "
            "depends on the model and on what `index build` or `index tune` measured, else 0.99."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List groups of items that are almost the same image, the largest first."""
    if similarity is not None and not 0 < similarity <= 1:
        raise ConfigurationError(f"--similarity must be above 0 and at most 1. Received: {similarity}.")
    with open_index(index) as opened, progress("searching", len(opened)) as advance:
        groups = opened.duplicates(similarity, on_progress=advance)
    if as_json:
        say_json(json.dumps([asdict(group) for group in groups], indent=2))
        return
    for group in groups:
        say(f"{len(group.keys)} items, similarity {group.similarity:.4f} or more:")
        for key in group.keys:
            say(f"  {key}")
    say(f"{len(groups)} groups, {sum(len(group.keys) for group in groups)} items", err=True)
