"""Write an encoder as one SavedModel version folder that TensorFlow Serving loads.

EXPORT/<model>/<version>/
  saved_model.pb, variables/                   four signatures, or five with a decoder, see `contract`
  assets.extra/tf_serving_warmup_requests      replayed by the server while it loads the version
  batching_params.pbtxt                        read by a server that batches, see `batching`
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ae_search.contract import (
    FITS,
    METRICS,
    Fit,
    Metric,
    ModelCard,
)
from ae_search.data.decode import PREPROCESSING
from ae_search.errors import ConfigurationError, ExportError
from ae_search.export.adapter import AdaptedEncoder
from ae_search.export.batching import write_batching
from ae_search.export.decoder import AdaptedDecoder
from ae_search.export.parity import check_latents, check_parity
from ae_search.export.signatures import write_signatures
from ae_search.export.warmup import write_warmup
from ae_search.files import is_full_disk, locked, make_folder, new_folder, trouble_in_words
from ae_search.model import histograms  # noqa: F401  Keras finds its layers in a .keras file only once it is imported.
from ae_search.model.failures import said_as
from ae_search.model.input_range import DEFAULT_RANGE, InputRange
from ae_search.model.keras_file import load_keras_file
from ae_search.model.parts import copies_from
from ae_search.version_folders import next_version, version_folders

log = logging.getLogger(__name__)


def export_encoder(
    encoder: Any,
    to: Path,
    *,
    decoder: Any = None,
    image_shape: tuple[int, int, int] | None = None,
    input_range: InputRange | None = None,
    metric: Metric = "angular",
    fit: Fit = "crop",
    data: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Export any Keras model from images to vectors as the next version below `to`.

    Args:
        encoder: Keras model from images `[n, h, w, c]`, c being 1 or 3, to vectors `[n, d]`; one output in a dict or
            list is taken too. It is run with `training=False`.
        to: Model base path; its name is the model's. Its versions are whole numbers, the new one the highest.
        decoder: Keras model from those latents to logits `[n, h, w, c]`, one a pixel value, as `build_decoder` returns
            it; its images may be smaller than the encoder's. None: what is exported has no signature `decode`.
        image_shape: `(h, w, c)`, needed where the model leaves them open.
        input_range: Values that the encoder wants: "0-1", "0-255" or "-1-1". None for what its first layers say
            (Rescaling, Normalization, arithmetic), else "0-1"; whole numbers are always fed 0-255. The choice is
            logged, and is in the card's `training`.
        metric: Distance to compare latents with: "angular" or "euclidean".
        fit: How an image file of another aspect ratio is brought to the encoder's: "crop" cuts out the largest centred
            window; "pad" shows all, and lays the mean colour of the picture's edge around it.
        data: Summary of the training data, for the model card.
        training: Figures of the training, for the model card.

    Returns:
        The version folder. It appears with one rename, complete and checked, or not at all.

    Raises:
        ConfigurationError: The model does not map images to vectors, or the decoder not those to images, or `to` cannot
            be written.
        ExportError: The latents cannot be searched with, or what was written answers otherwise than Keras.
    """
    if metric not in METRICS:
        raise ConfigurationError(f"--metric must be one of {', '.join(METRICS)}. Received: {metric}.")
    if fit not in FITS:
        raise ConfigurationError(f"--fit must be one of {', '.join(FITS)}. Received: {fit}.")
    if not re.fullmatch(r"[\w.-]+", to.resolve().name):
        raise ConfigurationError(f"The model's name {to.resolve().name!r} must be letters, digits, '_', '.' or '-'.")
    adapted = AdaptedEncoder.of(encoder, image_shape, input_range)
    back = None if decoder is None else AdaptedDecoder.of(decoder, adapted)
    with said_as(ExportError, "The encoder cannot be run"):
        expected = check_latents(adapted)
    with _only_exporter(to):
        card = ModelCard(
            name=to.resolve().name,
            version=next_version(to),
            fingerprint=fingerprint(encoder, adapted.image_shape, adapted.input_range, fit),
            image_shape=adapted.image_shape,
            latent_dim=adapted.latent_dim,
            metric=metric,
            data=data or {},
            training={
                **(training or {}),
                **{"input_range": adapted.input_range, "input_dtype": adapted.dtype},
                **{"fit": fit, "preprocessing": PREPROCESSING},
                **({} if (first := copies_from(encoder)) is None else {"copies_from": first}),
            },
            keras=keras.__version__,
            tensorflow=tf.__version__,
            decodes=back is not None,
        )
        final = to / str(card.version)
        with _room_for(final), new_folder(final) as folder:
            with said_as(ExportError, "The encoder cannot be written as a SavedModel"):
                write_signatures(adapted, back, card, folder)
            write_warmup(folder, card)
            write_batching(folder, card)
            with said_as(ExportError, "What was exported cannot be run"):
                check_parity(adapted, expected, card, folder, decoder=back)
            _warn_of_refusal(folder)
    return final


def load_encoder(path: Path, *, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Load an encoder from a `.keras` file, without running code from it.

    Args:
        path: The file.
        custom_objects: Classes and functions that are no part of Keras, by the names that the file has for them.

    Raises:
        ConfigurationError: There is no such file, or Keras cannot load it safely.
    """
    in_python = "load it in Python and call ae_search.export.export_encoder"
    return load_keras_file(path, "--encoder", otherwise=in_python, custom_objects=custom_objects or {})


def versions(base: Path) -> list[int]:
    """Return the version numbers below a model base path, as TensorFlow Serving sees them, ascending.

    Raises:
        ConfigurationError: The base path cannot be read.
    """
    return sorted(version_folders(base)) if base.is_dir() else []


def fingerprint(
    encoder: Any, image_shape: tuple[int, int, int], input_range: InputRange = DEFAULT_RANGE, fit: Fit = "crop"
) -> str:
    """Return the sha256 over architecture, weights and preprocessing: equal for equal latents."""
    preprocessing: list[Any] = [PREPROCESSING, list(image_shape)]
    if input_range != DEFAULT_RANGE:
        preprocessing.append(input_range)
    if fit != "crop":
        preprocessing.append(fit)
    digest = hashlib.sha256()
    digest.update(json.dumps(preprocessing).encode())
    digest.update(json.dumps(_architecture(encoder), sort_keys=True, default=str).encode())
    for variable in encoder.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _architecture(model: Any) -> Any:
    """Return what Keras keeps of a model beside its weights; of a subclass, its name and what its layers keep."""
    try:
        kept = keras.saving.serialize_keras_object(model)["config"]
    except Exception:  # a subclass need not say how it is made
        kept = {}
    if isinstance(model, keras.Sequential) or "layers" in kept:
        return kept
    return [type(model).__name__, kept, [_architecture(layer) for layer in getattr(model, "layers", [])]]


@contextmanager
def _room_for(version: Path) -> Iterator[None]:
    """Tell a full or broken disk as an error of ours, whether Python or TensorFlow writes."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        if isinstance(error, tf.errors.OpError) and not is_full_disk(error):
            raise
        raise ExportError(f"Cannot write {version}: {trouble_in_words(error)}.") from error


@contextmanager
def _only_exporter(base: Path) -> Iterator[None]:
    """Let one export at a time choose a version number; a base path that is new goes again if the export fails."""
    new, lock = not base.exists(), base / ".lock"
    with ExitStack() as stack:
        while True:
            make_folder(base, "export")
            try:
                stack.enter_context(locked(lock, wait=True))
                break
            except FileNotFoundError:  # an export that failed took the folder away while this one waited
                continue
            except OSError as error:
                raise ConfigurationError(
                    f"Cannot write to {base}, which cannot be locked for an export: {trouble_in_words(error)}."
                ) from error
        try:
            yield
        except BaseException:
            if new and [one.name for one in base.iterdir()] == [lock.name]:
                lock.unlink()
                base.rmdir()
            raise


def _warn_of_refusal(folder: Path) -> None:
    """Say now what whoever loads the model would be told: an encoder of the user's own may print, or read files."""
    from ae_search.model_server.program import check_program  # here, because it brings gRPC along

    try:
        check_program(folder)
    except ExportError as error:
        log.warning("%s", error)
