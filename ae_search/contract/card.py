"""The model card: what an exported encoder says of itself, read as a stranger's text."""

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, Self, get_args

from ae_search.contract.wire import SIGNATURE_DESCRIBE
from ae_search.errors import ServerAnswerError

CARD_FORMAT = 1
# No image with more values, and no latent with more floats, fits as float32 into a message of 64 MiB.
MAX_IMAGE_VALUES = MAX_LATENT_DIM = 2**24
# Cards that ae-search writes have about a kilobyte.
MAX_CARD_BYTES = 2**20
MAX_NAME_LENGTH = 255
# Of `data` and `training`, which are for people; theirs have two.
MAX_NESTING = 16
# tensorflow_model_server's own default for --model_name.
DEFAULT_MODEL_NAME = "default"

Metric = Literal["angular", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)


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
        training: Figures of the training, and `input_range` and `input_dtype` of what the encoder itself is fed.
        keras: Version of Keras that exported it.
        tensorflow: Version of TensorFlow that exported it.
        format: Version of this card's layout.
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

    def to_json(self) -> str:
        """Return the card as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

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
            if len(text) > MAX_CARD_BYTES:
                raise ValueError(f"it has more than {MAX_CARD_BYTES} bytes")
            raw = json.loads(
                text.decode() if isinstance(text, bytes) else text,
                object_pairs_hook=_each_key_once,
                parse_float=_finite,
                parse_constant=_finite,
            )
            if _whole(raw["format"], "format") > CARD_FORMAT:
                raise ServerAnswerError(
                    f"The model card has format {raw['format']}, this ae-search reads up to {CARD_FORMAT}; upgrade it."
                )
            return cls(**_checked({f.name: raw[f.name] for f in fields(cls)}))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ServerAnswerError(
                f"The model's {SIGNATURE_DESCRIBE!r} signature did not return a model card ({error!r:.200}); "
                "was the model exported by ae-search?"
            ) from error


def _checked(card: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a card as they are used: in requests, as the size of arrays, and before people."""
    shape = card["image_shape"]
    if type(shape) is not list or len(shape) != 3:
        raise ValueError("image_shape is not [height, width, channels]")
    height, width, channels = (_whole(side, "image_shape") for side in shape)
    if channels not in (1, 3) or height * width * channels > MAX_IMAGE_VALUES:
        raise ValueError(f"image_shape has other than 1 or 3 channels, or more than {MAX_IMAGE_VALUES} values")
    _whole(card["version"], "version")
    if _whole(card["latent_dim"], "latent_dim") > MAX_LATENT_DIM:
        raise ValueError(f"latent_dim is more than {MAX_LATENT_DIM}")
    if card["metric"] not in METRICS:
        raise ValueError(f"metric is none of {', '.join(METRICS)}")
    for name in ("name", "fingerprint", "keras", "tensorflow"):
        text = card[name]
        if type(text) is not str or len(text) > MAX_NAME_LENGTH or not text.isprintable():
            raise ValueError(f"{name} is not printable text of at most {MAX_NAME_LENGTH} characters")
    if not card["name"] or not card["fingerprint"]:
        raise ValueError("name or fingerprint is empty")
    for name in ("data", "training"):
        if type(card[name]) is not dict or _nesting(card[name]) > MAX_NESTING:
            raise ValueError(f"{name} is not an object of at most {MAX_NESTING} levels")
    json.dumps(card, ensure_ascii=False).encode()  # halves of surrogate pairs would fail later, where they are printed
    return {**card, "image_shape": (height, width, channels)}


def _whole(value: Any, name: str) -> int:
    if type(value) is not int or not 1 <= value < 2**63:
        raise ValueError(f"{name} is not a whole number from 1 to 2**63 - 1")
    return value


def _nesting(value: Any) -> int:
    """Return how deep objects and lists lie in each other, without recursion."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [each for one in inner for each in one]
    return depth


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a key twice, of which readers take this one or that."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value
