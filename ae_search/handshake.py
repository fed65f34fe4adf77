"""The handshake: an encoder and an index that belong together, or an error that says why not."""

from contextlib import suppress

from ae_search.contract import Encoder, ModelCard, ModelRef
from ae_search.errors import ModelMismatchError, ModelNotServedError


def matching(encoder: Encoder, wanted: ModelRef, index: str) -> Encoder:
    """Return the encoder pinned to a version whose latents may be compared with an index's.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        wanted: The model whose latents the index holds.
        index: Its place, for the message.

    Raises:
        ModelMismatchError: The encoder has no version with that fingerprint.
        ServerError: The encoder does not answer.
    """
    with suppress(ModelNotServedError):
        pinned = encoder.at_version(wanted.version)
        if pinned.describe().fingerprint == wanted.fingerprint:
            return pinned
    card = encoder.describe()
    if card.fingerprint == wanted.fingerprint:
        return encoder.at_version(card.version)
    raise ModelMismatchError(
        f"{index} was built with {wanted.name} version {wanted.version} (fingerprint {wanted.fingerprint[:12]}), "
        f"but {_told(card)} answered; serve that version, or encode the same items with the one that answers: "
        "`ae-search index rebuild`."
    )


def _told(card: ModelCard) -> str:
    return f"{card.name} version {card.version} (fingerprint {card.fingerprint[:12]})"
