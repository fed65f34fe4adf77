"""From a source to Parquet files of latents, a shard at a time; what is finished is never done again.

OUT/                       readers of Parquet folders pass over names that begin with _
  _embed.json              what the shards are of
  latents-00000.parquet    key, label, metadata and latent; its place and what was left out are written in the file too
  _left-out.jsonl          key and reason of each image that was left out, at the end; whether the server refused it
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ae_search.checked_json import object_of, text_of, whole_of
from ae_search.contract import Encoder, ModelCard, ModelRef, OnItems, metadata_json, no_progress
from ae_search.data import FolderSource, Source, source_name
from ae_search.errors import ConfigurationError, ImageRefusedError, ModelMismatchError
from ae_search.exchange.parquet_file import about_parquet, parquet_writer
from ae_search.files import (
    locked,
    make_folder,
    open_regular,
    regular_stat,
    remove_leftovers,
    trouble_in_words,
    write_atomically,
)
from ae_search.handshake import with_fingerprint
from ae_search.indexing.encoding import SourceEncoder
from ae_search.indexing.left_out import LeftOut
from ae_search.plan import carry_out

log = logging.getLogger(__name__)

ABOUT = "_embed.json"
LEFT_OUT = "_left-out.jsonl"
SHARD_ITEMS = 8192
FORMAT = 1
MAX_ABOUT_BYTES = 1 << 20
KEYS_KEY = "keys"
SHARD_NAME = re.compile(r"latents-\d{5,}\.parquet")


@dataclass(frozen=True)
class EmbedReport:
    """What came of writing the latents of a source.

    Attributes:
        model: The model that the latents come from.
        images: Latents in all shards.
        shards: Number of shards.
        found: How many of them were there already.
        left_out: Key and reason of each image that was left out because it cannot be read.
        refused: The same of those that the server refused, although they can be decoded here.
        truncated: Keys of JPEG files that are cut short, of which the part that is there was encoded.
    """

    model: ModelRef
    images: int
    shards: int
    found: int
    left_out: dict[str, str]
    refused: dict[str, str] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)


def embed_source(
    source: Source,
    encoder: Encoder,
    out: Path,
    *,
    shard_items: int = SHARD_ITEMS,
    retry_left_out: bool = False,
    restart: bool = False,
    strict: bool = False,
    on_progress: OnItems = no_progress,
) -> EmbedReport:
    """Write the latents of every image of a source as Parquet files.

    After an interruption, the same call goes on with the first shard that is not finished. All shards are of one model;
    an image that changes under the same name meanwhile is not noticed.

    Args:
        source: The images.
        encoder: Served or in this process.
        out: The folder to write; new, empty, or of the same source and model.
        shard_items: Images to a shard, at least 1.
        retry_left_out: Do those shards again that left out an image.
        restart: Remove what an earlier call has written there, and begin anew.
        strict: Whether JPEG files that are cut short count as damaged. Shards that are finished stay as they are.
        on_progress: Called with the number of images done since the last call.

    Raises:
        ConfigurationError: `out` holds something else, cannot be written, or is being written; none of the first
            shard's images can be read; pyarrow is missing.
        ImageRefusedError: The server took none of the first shard's images.
        ModelMismatchError: The shards there are of a model that the encoder does not have.
        ServerError: The encoder does not answer.
    """
    if isinstance(source, FolderSource) and out.resolve().is_relative_to(source.root.resolve()):
        raise ConfigurationError(f"{out} lies among the images of {source.root}; choose another --out.")
    newest = encoder.describe()  # first: a server that is not there leaves no folder behind
    make_folder(out, "output")
    with only_writer(out):
        if restart:
            _remove_shards(out)
        card, model = _pinned(source, encoder, newest, out, shard_items)
        pinned = encoder.at_version(card.version)
        images = SourceEncoder(source, pinned, card.image_shape, thumbnails=False, strict=strict)
        found = done = 0
        left_out = LeftOut()
        for number, start in enumerate(range(0, len(source), shard_items)):
            positions = range(start, min(start + shard_items, len(source)))
            path = out / f"latents-{number:05}.parquet"
            told = _finished(path, _digest(source, positions))
            if told is not None and not (retry_left_out and told):
                found += 1
                on_progress(len(positions))
            else:
                told = _write(path, images, positions, (card, model), on_progress)
            left_out.add(told)
            done += len(positions) - len(told)
            if not done:  # rather a server or a folder that is not as it should be than so many bad images
                path.unlink()
                key, reason = told.first()
                kind = ImageRefusedError if told.refused else ConfigurationError
                raise kind(f"None of the first {len(told)} images can be encoded; {key}: {reason}")
        _write_file(out / LEFT_OUT, left_out.lines())
    lacking = (left_out.damaged, left_out.refused, left_out.truncated)
    return EmbedReport(model, done, -(-len(source) // shard_items), found, *lacking)


def _remove_shards(out: Path) -> None:
    """Remove what `embed_source` has written, and nothing else."""
    if (out / ABOUT).exists():  # first the shards: without it, those that are left would be something else's
        shards = [path for path in out.glob("latents-*.parquet") if SHARD_NAME.fullmatch(path.name)]
        for path in (*shards, out / LEFT_OUT, out / ABOUT):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigurationError(f"Cannot remove {path}: {error.strerror}.") from error


def _write(
    path: Path, images: SourceEncoder, positions: range, of: tuple[ModelCard, ModelRef], on_progress: OnItems
) -> LeftOut:
    """Write a shard; return the images that it leaves out."""
    card, model = of
    images.damaged.clear()
    images.refused.clear()
    images.truncated.clear()

    def lacking() -> LeftOut:
        return LeftOut(dict(images.damaged), dict(images.refused), list(images.truncated))

    def write_shard(temporary: Path) -> None:
        about: dict[str, Any] = {KEYS_KEY: _digest(images.source, positions)}
        with parquet_writer(temporary, model, card.metric, card.latent_dim, about=about) as write:
            for block in images.blocks(positions, on_progress):
                metadata = [
                    None if one is None else metadata_json(key, one)
                    for key, one in zip(block.keys, block.metadata, strict=True)
                ]
                write(block.latents, block.keys, block.labels, metadata)
            about.update(lacking().in_file())

    _write_file(path, write_shard)
    return lacking()


def _write_file(path: Path, write: Callable[[Path], object] | str) -> None:
    try:
        write_atomically(path, write)
    except OSError as error:
        raise ConfigurationError(f"Cannot write {path}: {trouble_in_words(error)}.") from error


def _finished(path: Path, keys: str) -> LeftOut | None:
    """Return what a shard leaves out, None where it is not there or is not the one of these keys."""
    if not os.path.lexists(path):
        return None
    try:
        regular_stat(path)
        about = about_parquet(path)
    except (ConfigurationError, OSError) as error:
        log.warning("doing %s again: %s", path, error)
        return None
    told = LeftOut.from_file(about)
    if about.get(KEYS_KEY) != keys or told is None:
        log.warning("doing %s again: it holds something else", path)
        return None
    return told


def _pinned(
    source: Source, encoder: Encoder, card: ModelCard, out: Path, shard_items: int
) -> tuple[ModelCard, ModelRef]:
    """Return the card of the version to ask, and the model that the shards are of, after writing or checking it.

    The same model may have another version number by now; its first one stays in the files.
    """
    wanted = {
        "format": FORMAT,
        "source": source_name(source),
        "images": len(source),
        "keys": _digest(source, range(len(source))),
        "shard_items": shard_items,
    }
    path = out / ABOUT
    if not os.path.lexists(path):
        if any(out.glob("*.parquet")):
            raise ConfigurationError(f"{out} holds Parquet files of something else; choose another --out.")
        model = ModelRef(card.name, card.version, card.fingerprint)
        _write_file(path, json.dumps({**wanted, "model": asdict(model)}, indent=2) + "\n")
        return card, model
    begun, model = _read_about(path)
    for name, value in wanted.items():
        if name != "source" and begun.get(name) != value:
            raise ConfigurationError(
                f"{out} was begun with {name} = {begun.get(name)!r}, now it is {value!r}; choose another --out, or "
                "begin anew with --restart. (New images go to an index that exists with `ae-search index add`.)"
            )
    return _card_of(model, card, encoder, out), model


def _read_about(path: Path) -> tuple[dict[str, Any], ModelRef]:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            text = file.read(MAX_ABOUT_BYTES + 1)
        if len(text) > MAX_ABOUT_BYTES:
            raise ValueError(f"longer than {MAX_ABOUT_BYTES} bytes")
        begun = json.loads(text)
        if not isinstance(begun, dict):
            raise ValueError("not a JSON object")
        told = object_of(begun, "model")
        return begun, ModelRef(text_of(told, "name"), whole_of(told, "version", 1), text_of(told, "fingerprint"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error!r}); choose another --out, or --restart.") from error


def _card_of(model: ModelRef, newest: ModelCard, encoder: Encoder, out: Path) -> ModelCard:
    """Return the card of a model that the encoder still has."""
    if newest.fingerprint == model.fingerprint:
        return newest
    pinned, card = carry_out(with_fingerprint(encoder, model))
    if pinned is None:
        raise ModelMismatchError(
            f"{out} was begun with {model.name} version {model.version} (fingerprint {model.fingerprint[:12]}), but "
            f"{card.name} version {card.version} answered; serve that version, choose another --out, or begin "
            "anew with --restart."
        )
    return card


def _digest(source: Source, positions: range) -> str:
    digest = hashlib.sha256()
    for position in positions:
        digest.update(source.key(position).encode() + b"\0")
    return digest.hexdigest()


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the lock of a folder of shards, and remove what killed writers left there.

    Raises:
        ConfigurationError: Another process holds it, or it cannot be locked.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(out / ".lock"))
        except BlockingIOError as error:
            raise ConfigurationError(f"Another process writes {out}.") from error
        except OSError as error:
            raise ConfigurationError(f"{out} cannot be locked ({error.strerror}); choose another --out.") from error
        remove_leftovers(out)
        yield
