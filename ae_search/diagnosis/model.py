"""The model: whether it is served, complete, and takes what a client sends."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ae_search.client import LatentClient
from ae_search.client.chunks import MAX_REQUEST_BYTES, MAX_ROWS
from ae_search.client.rpc_errors import NO_WEIGHTS
from ae_search.client.versions import COMING
from ae_search.contract import ModelCard
from ae_search.diagnosis.finding import Finding, ok, skipped, warning, wrong
from ae_search.diagnosis.network import SILENT
from ae_search.errors import (
    AccessDeniedError,
    ImageError,
    ModelNotServedError,
    ServerAnswerError,
    ServerError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from ae_search.image_file import pixels_to_png

MODEL, VERSION, LABEL, CARD, SIGNATURES = "model", "version", "label", "model card", "signatures"
BATCH, MESSAGE = "batch size", "message size"
BROKEN = "Export the model anew if it is broken."
# Versions that are listed.
SHOWN = 20
# Latents of one image by different signatures, relative to the largest value; float32 sums differ by about 1e-6.
TOLERANCE = 1e-3


def check_versions(client: LatentClient, version: int | None, *, elsewhere: frozenset[int] = frozenset()) -> Finding:
    """Return what the server says of the model's versions.

    Args:
        client: Pinned to nothing, so that all are shown.
        version: The one that is wanted, None for the newest.
        elsewhere: Versions that another server of the same target has.
    """
    try:
        statuses = client.status()
    except ModelNotServedError as error:
        return wrong(MODEL, str(error), "Name the model with --model-name, as the server's model config does.")
    except ServerAnswerError as error:
        told = f"{client.target} does not answer ModelService/GetModelStatus ({error})"
        return warning(MODEL, told, "A proxy may let Predict through only; version states cannot be shown.")
    except ServerError as error:
        return wrong(MODEL, str(error), advice_for(error, "Look at the server's log."))
    told = ", ".join(f"{one.version} {one.state}{f' ({one.error})' if one.error else ''}" for one in statuses[:SHOWN])
    told += f", and {len(statuses) - SHOWN} more" if len(statuses) > SHOWN else ""
    available = [one.version for one in statuses if one.state == "AVAILABLE"]
    coming = [one.version for one in statuses if one.state in COMING]
    if not available and not elsewhere:
        advice = "Wait: it is being loaded." if coming else f"Look at the server's log. {BROKEN}"
        return wrong(VERSION, f"no version of {client.model} is available: {told}", advice)
    if version is not None and version not in elsewhere.union(available):
        advice = "Serve that version too (model_version_policy), or ask for one that is available."
        if version in coming:
            advice = "Wait: it is being loaded."
        return wrong(VERSION, f"version {version} of {client.model} is not available; there: {told}", advice)
    return ok(VERSION, f"versions of {client.model}: {told}")


def advice_for(error: Exception, otherwise: str) -> str:
    """Return what to do about an error that has nothing to do with what was being checked, or `otherwise`."""
    text = str(error)
    if isinstance(error, AccessDeniedError):
        return "Give --token-file FILE, or --header KEY=VALUE, as the server or the proxy before it wants it."
    if isinstance(error, ServerTimeoutError):
        return f"Look at the server's log and load, or allow more with --timeout. {SILENT}"
    if isinstance(error, ModelNotServedError) and NO_WEIGHTS in text:
        return "Take that version away, and put it there anew under another number, with one rename (export/README.md)."
    if isinstance(error, ModelNotServedError) and "signature" not in text.lower():
        return "Let every server of the target serve that version, or pin one that all have (--model-version)."
    if isinstance(error, ServerUnavailableError) and "overloaded" in text:
        return "More threads (--grpc_max_threads), batching or servers; the client waits and asks again meanwhile."
    if isinstance(error, ServerUnavailableError):
        return "The server stopped answering; look at its log and load."
    if "UNIMPLEMENTED" in text:
        return "A proxy may not route /tensorflow.serving.PredictionService/Predict, or this is no model server."
    return otherwise


def check_card(client: LatentClient, label: str | None) -> tuple[Finding, ModelCard | None]:
    """Return what the model says of itself."""
    try:
        card = client.describe()
    except ModelNotServedError as error:
        if label is not None and "label" in str(error):
            advice = "Define it in version_labels (`serve --label`), or give --model-version."
            return wrong(LABEL, str(error), advice), None
        return wrong(SIGNATURES, str(error), advice_for(error, "Was the model written by `ae-search export`?")), None
    except (ServerError, ImageError) as error:
        return wrong(CARD, str(error), advice_for(error, "Was the model written by `ae-search export`?")), None
    shape = " x ".join(map(str, card.image_shape))
    model = f"{card.name} version {card.version}, fingerprint {card.fingerprint[:12]}"
    return ok(CARD, f"{model}: images {shape}, latents of {card.latent_dim} floats"), card


def check_signatures(client: LatentClient, card: ModelCard) -> Finding:
    """Return whether one image has the same latent as floats, as uint8 and as a file, and whether that is decoded."""
    pixels = np.random.default_rng(0).integers(0, 256, card.image_shape, np.uint8)
    try:
        latents = [
            client.encode(pixels.astype(np.float32) / 255.0),
            client.encode(pixels),
            client.encode_files([pixels_to_png(pixels)]),
        ]
        if card.decodes:
            client.decode(latents[0])
    except (ServerError, ImageError) as error:
        return wrong(SIGNATURES, str(error), advice_for(error, "Export the model anew with `ae-search export`."))
    scale = float(np.abs(latents[0]).max()) or 1.0
    apart = max(float(np.abs(other - latents[0]).max()) / scale for other in latents[1:])
    if apart > TOLERANCE:
        told = f"the latents of one image differ by {apart:.2g} of the largest value, by signature"
        return wrong(SIGNATURES, told, "Export the model anew with `ae-search export`.")
    return ok(SIGNATURES, "floats, uint8 and files are answered alike")


def check_sizes(client: LatentClient, card: ModelCard) -> Iterator[Finding]:
    """Yield whether the largest requests of a client are taken."""
    row_bytes = int(np.prod(card.image_shape))
    rows = max(1, min(MAX_ROWS, MAX_REQUEST_BYTES // row_bytes))
    try:
        client.encode(np.zeros((rows, *card.image_shape), np.uint8))
    except (ServerError, ImageError) as error:
        advice = advice_for(error, "Raise max_batch_size in the batching parameters.")
        yield wrong(BATCH, f"{rows} images in one request: {error}", advice)
        yield skipped(MESSAGE, "not tried, after what came before")
        return
    if client.limits.rows < rows:
        yield warning(
            BATCH,
            f"the server takes {client.limits.rows} images in one request, not {rows}",
            "The client sends smaller requests; raise max_batch_size in the batching parameters for fewer of them.",
        )
    else:
        yield ok(BATCH, f"{rows} images in one request are taken")
    yield _check_message_size(client)


def _check_message_size(client: LatentClient) -> Finding:
    side = int((MAX_REQUEST_BYTES / 3) ** 0.5) - 10
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG", compress_level=0)
    data = buffer.getvalue()
    megabytes = len(data) / 2**20
    try:
        client.encode_files([data])
    except (ServerError, ImageError) as error:
        limit = (
            "Raise the message limit of the server or of the proxy before it to at least 4 MiB, more for larger files."
        )
        return wrong(MESSAGE, f"a file of {megabytes:.1f} MiB: {error}", advice_for(error, limit))
    return ok(MESSAGE, f"a file of {megabytes:.1f} MiB is taken")
