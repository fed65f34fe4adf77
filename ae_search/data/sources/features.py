"""What the features of a `tf.train.Example` are called: the usual names, and how others are told."""

from dataclasses import dataclass, fields, replace
from urllib.parse import parse_qsl, urlencode

from ae_search.data.sources.example import feature_names
from ae_search.errors import ConfigurationError

# What data sets of TensorFlow's own programs call them.
_IMAGES = ("image/encoded", "image")
_LABELS = ("image/class/text", "image/class/label", "label")


@dataclass(frozen=True)
class Features:
    """What the features of an Example are called.

    Attributes:
        image: The bytes of an image file; None for image/encoded, or image.
        label: A text or a whole number; None for image/class/text, image/class/label or label, where there is one.
        key: A text or a whole number that no two images share; None: keys are made of file and number.
    """

    image: str | None = None
    label: str | None = None
    key: str | None = None


def with_features(text: str, features: Features) -> tuple[str, Features]:
    """Return an address, and the features that it names after "#" where `features` names none."""
    address, mark, tail = text.rpartition("#")
    names = [one.name for one in fields(Features)]
    pairs = dict(parse_qsl(tail)) if mark else {}
    if not pairs or not pairs.keys() <= set(names):
        return text, features
    return address, Features(**{name: getattr(features, name) or pairs.get(name) for name in names})


def as_text(features: Features) -> str:
    """Return what stands after "#": "image=image/encoded&label=kind"."""
    pairs = {one.name: getattr(features, one.name) for one in fields(Features)}
    return urlencode({name: text for name, text in pairs.items() if text}, safe="/")


def resolved(data: bytes, features: Features, place: str) -> Features:
    """Return the names that an Example has: those that were asked for, else the usual ones.

    Args:
        data: A record.
        features: What was asked for.
        place: Where the record lies, for messages.

    Raises:
        ConfigurationError: It is no Example, or lacks a feature that was asked for, or has no image.
    """
    try:
        names = feature_names(data)
    except ValueError as error:
        raise ConfigurationError(f"{place} holds no tf.train.Example: {error}.") from error
    image = features.image or next((name for name in _IMAGES if name in names), _IMAGES[0])
    label = features.label or next((name for name in _LABELS if name in names), None)
    for option, name in (("image", image), ("label", features.label), ("key", features.key)):
        if name is not None and name not in names:
            raise ConfigurationError(
                f"{place} has no feature {name}; it has {', '.join(names[:20]) or 'none'}. "
                f"Name the one to take by --{option}-feature."
            )
    return replace(features, image=image, label=label)
