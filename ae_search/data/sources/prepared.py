"""Data sets that tensorflow-datasets has prepared: their TFRecord files, read without TensorFlow."""

import os
import re
from typing import Any

from ae_search.data.sources.features import Features, with_features
from ae_search.data.sources.record_file import RecordFile
from ae_search.data.sources.tfrecord import Part, TFRecordSource
from ae_search.errors import ConfigurationError
from ae_search.extras import needs

SCHEME = "tfds:"
# NAME, NAME/CONFIG, each with a version. Names of a namespace are left out: their code would come from the network.
_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?")


def open_prepared(text: str, features: Features, *, download: bool = False) -> TFRecordSource:
    """Open a split of a data set.

    Args:
        text: NAME/SPLIT, as tensorflow-datasets has them: "beans/train", "mnist:3.0.1/train[:10%]".
        features: What to take of each example; the first image and the first label unless they are named.
        download: Whether to download and prepare it where it is not there.

    Raises:
        ConfigurationError: There is no such data set or split, it is not prepared, has no image, or is kept in files
            of another kind.
    """
    text, features = with_features(text, features)
    name, _, split = text.rpartition("/")
    if not split or not _NAME.fullmatch(name):
        raise ConfigurationError(f"A data set of tensorflow-datasets is {SCHEME}NAME/SPLIT. Received: {SCHEME}{text}.")
    builder = _builder(name)
    if not _is_there(builder):
        if not download:
            raise ConfigurationError(
                f"{name} is not prepared in {builder.data_dir}; --download does that, or "
                f"tfds.builder({name!r}).download_and_prepare()."
            )
        _prepare(builder, name)
    image, label, names = _image_and_label(builder.info.features, features, name)
    chosen = Features(image, label, features.key)
    return TFRecordSource(
        f"{SCHEME}{text}", f"{SCHEME}{text}", _parts(builder, split), features=chosen, label_names=names
    )


def _builder(name: str) -> Any:
    with needs(f"{SCHEME}{name} needs tensorflow-datasets", "tfds"):
        import tensorflow_datasets
    try:
        return tensorflow_datasets.builder(name, try_gcs=False)
    except Exception as error:  # it has a dozen of its own
        raise ConfigurationError(f"{SCHEME}{name} cannot be opened: {_first_line(error)}.") from error


def _is_there(builder: Any) -> bool:
    return os.path.isdir(builder.data_dir) and bool(builder.info.splits)


def _prepare(builder: Any, name: str) -> None:
    try:
        builder.download_and_prepare()
    except Exception as error:  # downloads fail in many ways
        raise ConfigurationError(f"{SCHEME}{name} cannot be prepared: {_first_line(error)}.") from error


def _parts(builder: Any, split: str) -> list[Part]:
    info = builder.info
    kind = info.file_format.value if info.file_format is not None else "tfrecord"
    if kind != "tfrecord":
        raise ConfigurationError(f"{info.full_name} is kept as {kind}; prepare it with file_format='tfrecord'.")
    try:
        instructions = info.splits[split].file_instructions
    except Exception as error:  # malformed slices are a ValueError, unknown splits a KeyError, and so on
        splits = ", ".join(info.splits)
        raise ConfigurationError(f"{info.full_name} has the splits {splits}. Received: {split!r}.") from error
    files = [RecordFile(str(one.filename), os.path.basename(one.filename)) for one in instructions]
    # -1 stands for all that follow.
    takes = [None if one.take < 0 else one.take for one in instructions]
    return [Part(file, one.skip, take) for file, one, take in zip(files, instructions, takes, strict=True)]


def _image_and_label(told: Any, features: Features, name: str) -> tuple[str, str | None, list[str] | None]:
    """Return the names of image and label, and the names of labels that are numbers."""
    import tensorflow_datasets

    kinds, named = tensorflow_datasets.features, dict(told.items()) if hasattr(told, "items") else {}
    images = [one for one, feature in named.items() if isinstance(feature, kinds.Image)]
    labels = [one for one, feature in named.items() if isinstance(feature, kinds.ClassLabel)]
    image = features.image or (images[0] if images else None)
    if image is None:
        raise ConfigurationError(f"{SCHEME}{name} has no image; it has {', '.join(named)}.")
    dtype = getattr(named.get(image), "np_dtype", None)
    if image in images and str(dtype) not in ("uint8", "<class 'numpy.uint8'>"):
        raise ConfigurationError(f"{SCHEME}{name}: the image {image} must be of uint8. Received: {dtype}.")
    label = features.label or (labels[0] if labels else None)
    return image, label, list(named[label].names) if label in labels else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
