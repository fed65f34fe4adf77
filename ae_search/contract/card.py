"""The model card: what an exported encoder says of itself, read as a stranger's text."""

import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from ae_search.checked_json import (
    MAX_WHOLE,
    object_of,
    one_of,
    parsed_object,
    printable_of,
    text_of,
    value_of,
    whole_of,
    wholes_of,
)
from ae_search.contract.wire import SIGNATURE_DESCRIBE
from ae_search.errors import ServerAnswerError

CARD_FORMAT = 1
# No image with more values, and no latent with more floats, fits as float32 into a message of 64 MiB.
MAX_IMAGE_VALUES = MAX_LATENT_DIM = 2**24
# Cards that ae-search writes have about a kilobyte.
MAX_CARD_BYTES = 2**20
MAX_NAME_LENGTH = 255
# Levels of `data` and `training`, which are for people; theirs have two.
MAX_NESTING = 16
# tensorflow_model_server's own default for --model_name.
DEFAULT_MODEL_NAME = "default"

Metric = Literal["angular", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
# How a picture of another aspect ratio is brought to the model's.
Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = get_args(Fit)
# Cards had no preprocessing in them before this one.
FIRST_TOLD_PREPROCESSING = 3


@dataclass(frozen=True)
class ModelRef:
    """The identity of a model, as an index keeps it.

    Attributes:
        name: Model name.
        version: Version number, at least 1.
        fingerprint: Hex sha256 of the model; latents of another fingerprint must not be compared with these.
    """

    name: str
    version: int
    fingerprint: str


@dataclass(frozen=True)
class ModelCard:
    """What an exported encoder says of itself through the `describe` signature.

    Attributes:
        name: Model name, the folder above the versions.
        version: Version number, at least 1.
        fingerprint: Hex sha256 over architecture, weights and preprocessing; equal for equal latents.
        image_shape: Height and width in px, channels (1 or 3); at most `MAX_IMAGE_VALUES` values.
        latent_dim: Floats in one latent.
        metric: Distance to compare latents with, by its Annoy name.
        data: Summary of the training data.
        training: Figures of the training, `input_range` and `input_dtype` of what the encoder itself is fed, `fit`
            and `preprocessing` of how files become that, and `copies_from` where the latents have two parts.
        keras: Version of Keras that exported it.
        tensorflow: Version of TensorFlow that exported it.
        format: Version of this card's layout.
        decodes: Whether it has the signature `decode` as well.
    """

    name: str
    version: int
    fingerprint: str
    image_shape: tuple[int, int, int]
    latent_dim: int
    metric: Metric = "angular"
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    keras: str = ""
    tensorflow: str = ""
    format: int = CARD_FORMAT
    decodes: bool = False

    def to_json(self) -> str:
        """Return the card as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def fit(self) -> Fit:
        """How a picture of another aspect ratio is brought to the model's; models of before cropped."""
        return "pad" if self.training.get("fit") == "pad" else "crop"

    @property
    def preprocessing_version(self) -> int:
        """Version of the rules by which the model's graph makes its input of a file."""
        told = re.match(r"ae-search/(\d{1,4})\b", str(self.training.get("preprocessing", "")))
        return int(told[1]) if told else FIRST_TOLD_PREPROCESSING - 1

    @property
    def copies_from(self) -> int | None:
        """From which float on latents tell altered copies; None where they have no such part."""
        told = self.training.get("copies_from")
        return told if type(told) is int and 0 < told < self.latent_dim else None

    def with_version(self, version: int) -> Self:
        """Return the card under another version number, the one a server answered with."""
        return replace(self, version=version)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read and check a card.

        Raises:
            ServerAnswerError: It is no model card, or one of a newer format.
        """
        try:
            raw = parsed_object(text, max_bytes=MAX_CARD_BYTES)
            if (found := whole_of(raw, "format", 1, MAX_WHOLE)) > CARD_FORMAT:
                raise ServerAnswerError(
                    f"The model card has format {found}, this ae-search reads up to {CARD_FORMAT}; upgrade it."
                )
            raw.setdefault("decodes", False)  # cards of before do not speak of it
            return cls(**_checked({one.name: raw[one.name] for one in fields(cls)}))
        except (ValueError, KeyError) as error:
            raise ServerAnswerError(
                f"The model's {SIGNATURE_DESCRIBE!r} signature did not return a model card ({error!r:.200}); "
                "was the model exported by ae-search?"
            ) from error


def _checked(card: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a card as they are used: in requests, as the size of arrays, and before people."""
    shape = height, width, channels = wholes_of(card, "image_shape", 3, MAX_WHOLE)
    if channels not in (1, 3) or height * width * channels > MAX_IMAGE_VALUES:
        raise ValueError(f"image_shape has other than 1 or 3 channels, or more than {MAX_IMAGE_VALUES} values")
    whole_of(card, "version", 1, MAX_WHOLE)
    whole_of(card, "latent_dim", 1, MAX_LATENT_DIM)
    one_of(card, "metric", METRICS)
    value_of(card, "decodes", bool)
    for name in ("name", "fingerprint", "keras", "tensorflow"):
        printable_of(card, name, MAX_NAME_LENGTH)
    for name in ("name", "fingerprint"):
        text_of(card, name)
    for name in ("data", "training"):
        object_of(card, name, max_nesting=MAX_NESTING)
    json.dumps(card, ensure_ascii=False).encode()  # halves of surrogate pairs would fail later, where they are printed
    return {**card, "image_shape": shape}
