"""What a job keeps beside its shards: what they are of, and at the end what was left out.

OUT/
  _embed.json              what the shards are of; "runner" tells them from those of `ae-search embed` alone
  latents-00007.parquet    the images whose keys belong there, sorted by key
  _left-out.jsonl          as of `ae-search embed` alone
  _finished.json           the last file that is written: how many there are, and which images are cut short
"""

import json
from dataclasses import asdict
from typing import Any

from apache_beam.io.filesystems import FileSystems

from ae_search.beam.places import below, names_in, publish, read_text, remove
from ae_search.checked_json import parsed_object
from ae_search.contract import ModelRef
from ae_search.errors import ConfigurationError, ImageRefusedError
from ae_search.indexing.left_out import LeftOut
from ae_search.indexing.shards import ABOUT, FORMAT, LEFT_OUT, MAX_ABOUT_BYTES, SHARD_NAME, EmbedReport

FINISHED = "_finished.json"
_MAX_FINISHED_BYTES = 1 << 30


def shard_name(number: int) -> str:
    """Return the name of a shard."""
    return f"latents-{number:05}.parquet"


def begin(out: str, source: str, model: ModelRef, *, shard_items: int, restart: bool) -> None:
    """Make a folder ready for a job: empty, but for what it is of.

    What an unfinished job of the same images has left there is removed: a job begins at its beginning.

    Raises:
        ConfigurationError: The folder holds something else, or a job that is finished, or cannot be written.
    """
    wanted = {"format": FORMAT, "runner": "beam", "source": source, "shard_items": shard_items, "model": asdict(model)}
    begun = _begun(out)
    if begun is None and names_in(out, "*.parquet"):
        raise ConfigurationError(f"{out} holds Parquet files of something else; choose another --out.")
    if begun is not None and not restart:
        _check(out, begun, wanted)
    if begun is not None:
        _remove_all(out)
    text = json.dumps(wanted, indent=2) + "\n"
    publish(below(out, ABOUT), lambda path: path.write_text(text, encoding="utf-8"))


def finish(out: str, images: int, shards: int, left_out: LeftOut) -> None:
    """Tell that all shards are there, and what is not in them.

    Raises:
        ConfigurationError: There is no latent in them, or nothing can be written.
        ImageRefusedError: There is none because the server took none.
    """
    if not images:
        if not len(left_out):
            raise ConfigurationError("There is no image to encode.")
        key, reason = left_out.first()
        kind = ImageRefusedError if left_out.refused else ConfigurationError
        raise kind(f"None of the {len(left_out)} images can be encoded; {key}: {reason}")
    lines = left_out.lines()
    publish(below(out, LEFT_OUT), lambda path: path.write_text(lines, encoding="utf-8"))
    told = json.dumps({"images": images, "shards": shards, **left_out.in_file()})
    publish(below(out, FINISHED), lambda path: path.write_text(told, encoding="utf-8"))


def report(out: str, model: ModelRef) -> EmbedReport:
    """Return what came of a job that has ended well.

    Raises:
        ConfigurationError: It has left no word of it.
    """
    told = _object(out, FINISHED, _MAX_FINISHED_BYTES) or {}
    left_out, images, shards = LeftOut.from_file(told), told.get("images"), told.get("shards")
    if left_out is None or type(images) is not int or type(shards) is not int:
        raise ConfigurationError(
            f"The job has ended, but {below(out, FINISHED)} is not there; can its workers write it?"
        )
    return EmbedReport(model, images, shards, 0, left_out.damaged, left_out.refused, left_out.truncated)


def _begun(out: str) -> dict[str, Any] | None:
    return _object(out, ABOUT, MAX_ABOUT_BYTES)


def _object(out: str, name: str, max_bytes: int) -> dict[str, Any] | None:
    place = below(out, name)
    try:
        text = read_text(place, max_bytes)
        return None if text is None else parsed_object(text, max_bytes=max_bytes)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{place} cannot be read ({error!r}); choose another --out.") from error


def _check(out: str, begun: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise ConfigurationError(
                f"{out} was begun with {name} = {begun.get(name)!r}, now it is {value!r}; choose another --out, or "
                "begin anew with --restart."
            )
    if FileSystems.exists(below(out, FINISHED)):
        raise ConfigurationError(f"{out} is finished; choose another --out, or begin anew with --restart.")


def _remove_all(out: str) -> None:
    """Remove what a job has written, and nothing else."""
    shards = [name for name in names_in(out, "latents-*.parquet") if SHARD_NAME.fullmatch(name)]
    # First the shards: without what tells of them, those that are left would be something else's.
    for name in (*shards, FINISHED, LEFT_OUT, ABOUT):
        remove(below(out, name))
