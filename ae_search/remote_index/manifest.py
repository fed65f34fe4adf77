"""What an index on another machine says of itself, whichever engine holds it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from ae_search.checked_json import MAX_WHOLE, number_of, object_of, one_of, parsed_object, text_of, whole_of, wholes_of
from ae_search.contract import MAX_ITEM_DIM, METRICS, Metric, ModelRef, Origin, RecallPoint
from ae_search.errors import ConfigurationError, IndexDamagedError, ModelMismatchError

FORMAT = 1
_MAX_MANIFEST_BYTES = 1 << 22


class EngineOptions(Protocol):
    """How an engine builds what it searches."""

    def to_json(self) -> dict[str, Any]:
        """Return them as they stand in the manifest."""


Options = TypeVar("Options", bound=EngineOptions)


@dataclass(frozen=True)
class Manifest(Generic[Options]):
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
    options: Options
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
    def from_json(
        cls, text: str, place: str, read_options: Callable[[dict[str, Any]], Options], most_effort: int
    ) -> Self:
        """Read and check a manifest.

        Args:
            text: What `to_json` returned.
            place: Name of the index, for messages.
            read_options: Reads and checks the engine's options.
            most_effort: The largest effort that there is.

        Raises:
            ConfigurationError: A newer release wrote it.
            IndexDamagedError: It is not what a builder writes.
        """
        try:
            raw = parsed_object(text, max_bytes=_MAX_MANIFEST_BYTES)
            found = whole_of(raw, "format", 1, MAX_WHOLE)
            if found <= FORMAT:
                return cls(**_checked(raw, most_effort), options=read_options(object_of(raw, "options")))
        except (ValueError, KeyError, TypeError) as error:
            raise IndexDamagedError(
                f"{place}: its manifest is damaged ({error!r:.200}); restore the database or build the index anew."
            ) from error
        raise ConfigurationError(f"{place} has format {found}, newer than {FORMAT}; upgrade ae-search.")


def check_model(manifest: Manifest[Any], fingerprint: str | None, place: str) -> None:
    """Check that latents of a model belong into an index.

    Args:
        manifest: What the index says of itself.
        fingerprint: Fingerprint of the model that the latents come from; None where it does not matter.
        place: Name of the index, for messages.

    Raises:
        ModelMismatchError: It holds those of another model.
    """
    model = manifest.model
    if fingerprint not in (None, model.fingerprint):
        raise ModelMismatchError(
            f"{place} holds latents of {model.name} version {model.version} (fingerprint "
            f"{model.fingerprint[:12]}) by now; encode with that version, and open the index anew."
        )


def _checked(raw: dict[str, Any], most_effort: int) -> dict[str, Any]:
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
        "seed": whole_of(raw, "seed", 0, 2**32 - 1),
        "target_recall": number_of(raw, "target_recall", 1.0),
        "sources": tuple(sources),
        "effort": whole_of(raw, "effort", 1, most_effort),
        "recall": number_of(raw, "recall", 1.0),
        "recall_curve": tuple(_point(point, most_effort) for point in raw["recall_curve"]),
        "created": text_of(raw, "created"),
    }


def _point(raw: Mapping[str, Any], most_effort: int) -> RecallPoint:
    one = dict(raw)
    return RecallPoint(
        whole_of(one, "effort", 1, most_effort),
        number_of(one, "recall", 1.0),
        number_of(one, "error"),
        number_of(one, "latency_ms"),
    )
