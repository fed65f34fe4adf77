"""What the database says of an index: its live generation's manifest and counts."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

from ae_search.checked_json import MAX_WHOLE, number_of, object_of, one_of, parsed_object, text_of, whole_of, wholes_of
from ae_search.contract import MAX_ITEM_DIM, METRICS, Metric, ModelRef, Origin, RecallPoint
from ae_search.errors import ConfigurationError, IndexDamagedError
from ae_search.remote_index.postgres.connections import Session
from ae_search.remote_index.postgres.options import MAX_EFFORT, HnswOptions
from ae_search.remote_index.postgres.place import PostgresPlace

FORMAT = 1
_MAX_MANIFEST_BYTES = 1 << 22

_COUNTS = "number, epoch, changes, items, latents, most_latents, in_base, added, removed, next_id"
_LOAD = f"""
SELECT {_COUNTS}, manifest::text FROM ae_search.generations
WHERE number = (SELECT generation FROM ae_search.indexes WHERE name = %s)
"""


@dataclass(frozen=True)
class Manifest:
    """What stays the same while a generation lives, but for tuning and sources.

    Attributes:
        model: The model whose latents the generation holds.
        image_shape: Height and width in px, channels; None where it is not known.
        latent_dim: Floats in one latent.
        metric: Distance to compare them with.
        options: How the graph is built.
        seed: Seed of the measurement.
        target_recall: Recall@10 that was asked for.
        sources: Names of the sources that items came from.
        effort: Candidates that a query looks at.
        recall: Recall@10 measured at that effort.
        recall_curve: Everything that was measured.
        created: When it was built, UTC time in ISO 8601.
    """

    model: ModelRef
    image_shape: tuple[int, int, int] | None
    latent_dim: int
    metric: Metric
    options: HnswOptions
    seed: int
    target_recall: float
    sources: tuple[str, ...]
    effort: int = 1
    recall: float = 1.0
    recall_curve: tuple[RecallPoint, ...] = ()
    created: str = ""

    def of_model(self, model: Origin) -> Self:
        """Return one for latents of another model."""
        return replace(
            self,
            model=ModelRef(model.name, model.version, model.fingerprint),
            image_shape=model.image_shape,
            latent_dim=model.latent_dim,
            metric=model.metric,
        )

    def to_json(self) -> str:
        """Return it as it is stored."""
        return json.dumps({"format": FORMAT, **asdict(self), "options": self.options.to_json()})

    @classmethod
    def from_json(cls, text: str, place: str) -> Self:
        """Read and check a manifest.

        Raises:
            ConfigurationError: A newer release wrote it.
            IndexDamagedError: It is not what a builder writes.
        """
        try:
            raw = parsed_object(text, max_bytes=_MAX_MANIFEST_BYTES)
            found = whole_of(raw, "format", 1, MAX_WHOLE)
            if found <= FORMAT:
                return cls(**_checked(raw))
        except (ValueError, KeyError, TypeError) as error:
            raise IndexDamagedError(
                f"{place}: its manifest is damaged ({error!r:.200}); restore the database or build the index anew."
            ) from error
        raise ConfigurationError(f"{place} has format {found}, newer than {FORMAT}; upgrade ae-search.")


@dataclass(frozen=True)
class State:
    """An index at one moment.

    Attributes:
        number: Number of the live generation.
        epoch: Counts what makes a reader read the manifest again.
        changes: Counts all changes of the generation.
        items: Items in it.
        latents: Latents of these.
        most_latents: The most latents that one item ever had.
        in_base: Items when it was built.
        added: Items added since and still there.
        removed: Items of those it was built with that were removed since.
        next_id: Id of the next item.
        manifest: All else.
    """

    number: int
    epoch: int
    changes: int
    items: int
    latents: int
    most_latents: int
    in_base: int
    added: int
    removed: int
    next_id: int
    manifest: Manifest

    @cached_property
    def version(self) -> tuple[int, int]:
        """What a reader must know to read right."""
        return self.number, self.epoch


def find(session: Session, place: PostgresPlace) -> State | None:
    """Read the state of an index; None where there is none.

    Raises:
        IndexDamagedError: Its manifest is damaged.
    """
    (row,) = session.execute("SELECT to_regclass('ae_search.calibration')")
    found = None if row[0] is None else session.execute(_LOAD, (place.index,)).fetchone()
    if found is None:
        return None
    *counts, text = found
    return State(
        **dict(zip(_COUNTS.split(", "), counts, strict=True)), manifest=Manifest.from_json(text or "", place.name)
    )


def load(session: Session, place: PostgresPlace) -> State:
    """Read the state of an index.

    Raises:
        ConfigurationError: There is no such index.
        IndexDamagedError: Its manifest is damaged.
    """
    state = find(session, place)
    if state is None:
        raise ConfigurationError(f"There is no index at {place.name}; build one with `ae-search index build`.")
    return state


def _checked(raw: dict[str, Any]) -> dict[str, Any]:
    model = object_of(raw, "model")
    sources = raw["sources"]
    if not isinstance(sources, list) or not all(isinstance(name, str) for name in sources):
        raise ValueError("sources are not a list of texts")
    shape = raw["image_shape"]
    return {
        "model": ModelRef(
            text_of(model, "name"), whole_of(model, "version", 1, MAX_WHOLE), text_of(model, "fingerprint")
        ),
        "image_shape": None if shape is None else wholes_of(raw, "image_shape", 3, MAX_WHOLE),
        "latent_dim": whole_of(raw, "latent_dim", 1, MAX_ITEM_DIM),
        "metric": one_of(raw, "metric", METRICS),
        "options": HnswOptions.from_json(object_of(raw, "options")),
        "seed": whole_of(raw, "seed", 0, 2**32 - 1),
        "target_recall": number_of(raw, "target_recall", 1.0),
        "sources": tuple(sources),
        "effort": whole_of(raw, "effort", 1, MAX_EFFORT + 1),
        "recall": number_of(raw, "recall", 1.0),
        "recall_curve": tuple(map(_point, raw["recall_curve"])),
        "created": text_of(raw, "created"),
    }


def _point(raw: Mapping[str, Any]) -> RecallPoint:
    one = dict(raw)
    return RecallPoint(
        whole_of(one, "effort", 1, MAX_EFFORT + 1),
        number_of(one, "recall", 1.0),
        number_of(one, "error"),
        number_of(one, "latency_ms"),
    )
