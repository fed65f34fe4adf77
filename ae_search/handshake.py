"""The handshake: an encoder and an index that belong together, or an error that says why not."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from ae_search.contract import Encoder, ModelCard, ModelRef
from ae_search.errors import ModelMismatchError, ModelNotServedError
from ae_search.plan import Plan, Question, carry_out


def matching(encoder: Encoder, wanted: ModelRef, place: str | Path) -> Encoder:
    """Return the encoder pinned to a version whose latents may be compared with an index's.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        wanted: The model whose latents the index holds.
        place: Where the index is, for the message.

    Raises:
        ModelMismatchError: The encoder has no version with that fingerprint.
        ServerError: The encoder does not answer.
    """
    pinned: Encoder = carry_out(shake_hands(encoder, wanted, place))[0]
    return pinned


def shake_hands(encoder: Any, wanted: ModelRef, place: str | Path) -> Plan[tuple[Any, ModelCard]]:
    """Do what `matching` does, with an `Encoder` or an `AsyncEncoder`; end with it, pinned, and with its card."""
    pinned, card = yield from with_fingerprint(encoder, wanted)
    if pinned is None:
        raise ModelMismatchError(
            f"{place} was built with {wanted.name} version {wanted.version} (fingerprint {wanted.fingerprint[:12]}), "
            f"but {card.name} version {card.version} (fingerprint {card.fingerprint[:12]}) answered; serve that "
            "version, or encode the same items with the one that answers: `ae-search index rebuild`."
        )
    return pinned, card


def with_fingerprint(encoder: Any, wanted: ModelRef) -> Plan[tuple[Any, ModelCard]]:
    """Look for a model's fingerprint: at the model's own version, then at the newest.

    Args:
        encoder: An `Encoder` or an `AsyncEncoder`.
        wanted: The model.

    Returns:
        The encoder pinned to the version that has it, None if none has; and the card of the one that answered last.
    """
    with suppress(ModelNotServedError):
        pinned = encoder.at_version(wanted.version)
        card: ModelCard = yield Question(pinned.describe)
        if card.fingerprint == wanted.fingerprint:
            return pinned, card
    card = yield Question(encoder.describe)
    return (encoder.at_version(card.version) if card.fingerprint == wanted.fingerprint else None), card
