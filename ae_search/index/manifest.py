"""The manifest: all that an engine's file does not say of itself, and where the live one is."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from ae_search.checked_json import number_of, object_of, text_of, value_of, whole_of
from ae_search.contract import MAX_ITEM_DIM, MAX_LATENTS_PER_ITEM, METRICS, Metric, ModelRef, RecallPoint
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.files import is_folder, open_regular, write_atomically
from ae_search.index.items.fields import checked_fields
from ae_search.index.options import ENGINE_OPTIONS, BaseShape, EngineOptions
from ae_search.index.shortage import unreadable

FORMAT = 3
CURRENT = "CURRENT"
MANIFEST = "manifest.json"
GENERATION = re.compile(r"generation-(\d{6})", re.ASCII)

_MAX_MANIFEST_BYTES = 1 << 20
_MAX_CURRENT_BYTES = 64


@dataclass(frozen=True)
class FileProof:
    """What a file of a generation must be before it may be used.

    Attributes:
        size: Length in bytes.
        sha256: Hex digest.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class BuildPlan:
    """What a generation is built to, and what the next one takes over.

    Attributes:
        model: The model whose latents it holds.
        image_shape: Height and width in px, channels, as that model takes them; None where it is not known.
        latent_dim: Floats in one latent.
        metric: Distance that latents are compared with.
        engine: Options of the engine, whose class names the engine.
        seed: Seed of the base and of the measurement.
        target_recall: Recall that the effort was to reach, in (0, 1].
        sources: Names of the sources that the items came from.
        fields: Fields of the metadata that filters look up.
    """

    model: ModelRef
    image_shape: tuple[int, int, int] | None
    latent_dim: int
    metric: Metric
    engine: EngineOptions
    seed: int
    target_recall: float
    sources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest(BuildPlan):
    """What one generation holds and how it was built.

    Attributes:
        effort: Work that the engine does for up to 10 neighbours.
        recall: Recall measured at that effort, in [0, 1].
        recall_curve: Everything that was measured, by rising effort.
        items: Count of items in the base.
        latents: Count of their latents.
        most_latents: Latents of the item that has most of them.
        created: UTC time in ISO 8601.
        files: Size and digest of each file that does not change, by name.
        format: Version of this layout.
    """

    effort: int = 1
    recall: float = 1.0
    recall_curve: tuple[RecallPoint, ...] = ()
    items: int = 0
    latents: int = 0
    most_latents: int = 1
    created: str = ""
    files: Mapping[str, FileProof] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def base_shape(self) -> BaseShape:
        """What the engine's base holds."""
        return BaseShape(self.latents, self.latent_dim, self.metric)

    def plan(self, **changes: Any) -> BuildPlan:
        """Return what the next generation is built to, with some fields changed."""
        return replace(BuildPlan(**{f.name: getattr(self, f.name) for f in fields(BuildPlan)}), **changes)

    def to_json(self) -> str:
        """Return the manifest with the digest of itself."""
        return _with_digest(asdict(self) | {"engine": {"name": self.engine.engine, **self.engine.to_json()}})

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into a generation."""
        write_atomically(folder / MANIFEST, self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and check the manifest of a generation.

        Raises:
            IndexDamagedError: It is missing, malformed or altered.
            ConfigurationError: It has another format than this release reads.
        """
        path = folder / MANIFEST
        try:
            text = _read_bounded(path, _MAX_MANIFEST_BYTES).decode()
            raw = json.loads(text)
            if not isinstance(raw, dict):
                raise ValueError("not a JSON object")
            _check_digest(raw, text)
            if (found := whole_of(raw, "format", 1)) != FORMAT:
                raise ConfigurationError(
                    f"{path} has format {found}, this ae-search reads format {FORMAT}; "
                    + ("upgrade it." if found > FORMAT else "build the index anew with --replace.")
                )
            return cls(**_fields(raw))
        except (ValueError, OverflowError, RecursionError) as error:
            raise IndexDamagedError(
                f"{path} is no valid manifest ({error}); restore it, or build the index anew with --replace."
            ) from error


def _with_digest(raw: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()
    return json.dumps(raw | {"sha256": digest}, indent=2) + "\n"


def _check_digest(raw: dict[str, Any], text: str) -> None:
    """Check that a manifest is, byte for byte, what was written; this holds for later formats too."""
    if _with_digest({name: value for name, value in raw.items() if name != "sha256"}) != text:
        raise ValueError("its sha256 is another")


def live_generation(index: Path) -> Path:
    """Return the folder of the generation that CURRENT names.

    Raises:
        ConfigurationError: `index` is no index.
        IndexDamagedError: CURRENT names no generation, or one that is missing.
    """
    name = ""
    while True:
        before, name = name, _current(index)
        folder = index / name
        # A link would lead writers to files outside of the index.
        if is_folder(folder):
            return folder
        # A writer may have published the next generation and removed this one meanwhile.
        if name == before:
            what = "no folder" if os.path.lexists(folder) else "missing"
            raise IndexDamagedError(
                f"{index / CURRENT} names {name}, but {folder} is {what}; restore it or build the index anew."
            )


def _current(index: Path) -> str:
    current = index / CURRENT
    if not os.path.lexists(current):
        raise ConfigurationError(f"{index} is no index (no file {CURRENT}); make one with `ae-search index build`.")
    try:
        name = _read_bounded(current, _MAX_CURRENT_BYTES).decode("ascii").strip()
    except ValueError as error:
        raise IndexDamagedError(f"{current} does not name a generation ({error}).") from error
    # The name becomes a path, so nothing but this pattern may pass.
    if not GENERATION.fullmatch(name):
        raise IndexDamagedError(f"{current} does not name a generation. Received: {name!r}.")
    return name


def _read_bounded(path: Path, limit: int) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            content = file.read(limit + 1)
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) from error
    if len(content) > limit:
        raise ValueError(f"longer than {limit} bytes")
    return content


def _fields(raw: dict[str, Any]) -> dict[str, Any]:
    model, files = object_of(raw, "model"), object_of(raw, "files")
    points, sources = value_of(raw, "recall_curve", list), value_of(raw, "sources", list)
    if not all(isinstance(point, dict) for point in points) or not all(isinstance(name, str) for name in sources):
        raise ValueError("'recall_curve' must hold objects and 'sources' texts")
    engine, items = _engine(raw), whole_of(raw, "items", 0)
    most = whole_of(raw, "most_latents", 1, MAX_LATENTS_PER_ITEM if items else 1)
    latents = whole_of(raw, "latents", items and items - 1 + most, most * items)
    return {
        "model": ModelRef(text_of(model, "name"), whole_of(model, "version", 1), text_of(model, "fingerprint")),
        "image_shape": _image_shape(raw),
        "latent_dim": whole_of(raw, "latent_dim", 1, MAX_ITEM_DIM),
        "metric": _metric(raw),
        "engine": engine,
        "seed": whole_of(raw, "seed", 0, 2**32 - 1),
        "target_recall": number_of(raw, "target_recall", 1.0),
        "sources": tuple(sources),
        "fields": _lookups(raw),
        "effort": whole_of(raw, "effort", 1, engine.most_effort(latents)),
        "recall": number_of(raw, "recall", 1.0),
        "recall_curve": tuple(map(_recall_point, points)),
        "items": items,
        "latents": latents,
        "most_latents": most,
        "created": _created(raw),
        "files": {name: _proof(object_of(files, name)) for name in files},
    }


def _engine(raw: dict[str, Any]) -> EngineOptions:
    options = object_of(raw, "engine")
    name = text_of(options, "name")
    if name not in ENGINE_OPTIONS:
        raise ConfigurationError(
            f"The index was built with the engine {name[:60]!r}, this ae-search has {', '.join(ENGINE_OPTIONS)}; "
            "upgrade it, or build the index anew with --replace."
        )
    return ENGINE_OPTIONS[name].from_json(options)


def _recall_point(raw: dict[str, Any]) -> RecallPoint:
    return RecallPoint(
        whole_of(raw, "effort", 1),
        number_of(raw, "recall", 1.0),
        number_of(raw, "error"),
        number_of(raw, "latency_ms"),
    )


def _lookups(raw: dict[str, Any]) -> tuple[str, ...]:
    # Manifests from before there were any name none.
    names = value_of({"fields": [], **raw}, "fields", list)
    try:
        if not all(isinstance(name, str) for name in names) or checked_fields(names) != tuple(names):
            raise ValueError("'fields' must hold different names")
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return tuple(names)


def _image_shape(raw: dict[str, Any]) -> tuple[int, int, int] | None:
    if raw.get("image_shape", 0) is None:
        return None
    sides = value_of(raw, "image_shape", list)
    if len(sides) != 3 or any(type(side) is not int or side < 1 for side in sides) or sides[2] not in (1, 3):
        raise ValueError(f"'image_shape' must be height, width and 1 or 3 channels. Received: {str(sides)[:60]}")
    return sides[0], sides[1], sides[2]


def _metric(raw: dict[str, Any]) -> Metric:
    for metric in METRICS:
        if raw.get("metric") == metric:
            return metric
    raise ValueError(f"'metric' must be one of {METRICS}. Received: {str(raw.get('metric'))[:60]!r}")


def _created(raw: dict[str, Any]) -> str:
    created = text_of(raw, "created")
    datetime.fromisoformat(created)
    return created


def _proof(raw: dict[str, Any]) -> FileProof:
    digest = text_of(raw, "sha256")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("'sha256' must be 64 hex digits")
    return FileProof(whole_of(raw, "size", 0, 2**63 - 1), digest)
