"""What a SOURCE argument stands for."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ae_search.data.builtin import BUILTIN, SPLITS, load_builtin
from ae_search.data.sources.arrays import ArraySource
from ae_search.data.sources.features import Features, with_features
from ae_search.data.sources.folder import FolderSource
from ae_search.data.sources.object_folder import ObjectFolderSource
from ae_search.data.sources.object_store import open_store, scheme_of
from ae_search.data.sources.prepared import SCHEME, open_prepared
from ae_search.data.sources.record_file import RecordFile
from ae_search.data.sources.source import Source
from ae_search.data.sources.table import SEPARATORS, TableSource
from ae_search.data.sources.tfrecord import Part, TFRecordSource
from ae_search.errors import ConfigurationError

RECORDS, TABLE = "tfrecord:", "table:"
_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class SourceOptions:
    """How a source is opened.

    Attributes:
        image_feature: The feature of TFRecord files and tfds with an image file's bytes; None for the usual names.
        label_feature: The feature with the label; None for the usual names, where there is one.
        key_feature: The feature with a key; None: keys are made of file and number.
        download: Whether tensorflow-datasets may download what is not there.
    """

    image_feature: str | None = None
    label_feature: str | None = None
    key_feature: str | None = None
    download: bool = False

    @property
    def features(self) -> Features:
        """What the features of an Example are called."""
        return Features(self.image_feature, self.label_feature, self.key_feature)


_DEFAULT = SourceOptions()


def open_source(text: str, *, only: Sequence[str] = (), options: SourceOptions = _DEFAULT) -> Source:
    """Return the source that a SOURCE argument names.

    Args:
        text: A folder of images; a table (*.csv, *.tsv, *.parquet, or table:FILE); tfrecord:GLOB; tfds:NAME/SPLIT; or a
            built-in name with an optional split ("fashion_mnist" is "fashion_mnist/train"). Folders, tables and globs
            may lie in an object store (gs://, s3://, …). A folder that has a built-in's name is written "./digits".
        only: Patterns of file names, for a part of a folder; see `FolderSource.only`. Without any, all of it.
        options: How it is opened.

    Raises:
        ConfigurationError: It is nothing of the kind, holds no image, cannot be read, or is given an option that does
            not go with it.
    """
    name = text.partition("/")[0]
    is_builtin = name in BUILTIN and not Path(text).is_dir()
    kind = _kind(text)
    if only and (is_builtin or (name in BUILTIN and text.partition("/")[2] in ("", *SPLITS)) or kind != "folder"):
        raise ConfigurationError(f"--only chooses files of a folder. Received: {' '.join(only)}, for {text}.")
    if options.features != Features() and kind not in (RECORDS, SCHEME):
        raise ConfigurationError(f"Features are those of {RECORDS} and {SCHEME} sources. Received: {text!r}.")
    if kind == RECORDS:
        return _open_records(text.removeprefix(RECORDS), options.features)
    if kind == SCHEME:
        return open_prepared(text.removeprefix(SCHEME), options.features, download=options.download)
    if kind == TABLE:
        return TableSource(local_path(text.removeprefix(TABLE)))
    folder = _open_folder(text)
    if isinstance(folder, ArraySource):
        return folder
    return folder.only(only) if only else folder


def _kind(text: str) -> str:
    for prefix in (RECORDS, SCHEME, TABLE):
        if text.startswith(prefix):
            return prefix
    is_table = Path(text).suffix.lower() in SEPARATORS and not Path(text).is_dir()
    return TABLE if is_table and (scheme_of(text) or Path(text).exists()) else "folder"


def _open_folder(text: str) -> ArraySource | FolderSource | ObjectFolderSource:
    name, _, split = text.partition("/")
    if name in BUILTIN and (split in SPLITS or not split):
        split = split or "train"
        images, labels = load_builtin(name, split)
        return ArraySource(f"{name}/{split}", images, labels)
    if name in BUILTIN and not Path(text).is_dir():
        raise ConfigurationError(f"{name} has the splits {' and '.join(SPLITS)}. Received: {text!r}.")
    place = local_path(text)
    if scheme_of(place):
        return ObjectFolderSource.below(place)
    root = Path(place)
    if not root.is_dir():
        raise ConfigurationError(
            f"SOURCE must be one of {', '.join(sorted(BUILTIN))}, a folder of images, a table of them (*.csv, "
            f"*.parquet), {RECORDS}GLOB or {SCHEME}NAME/SPLIT. "
            f"Received: {text!r}, which is {'a file' if root.exists() else 'neither a built-in name nor a folder'}."
        )
    return FolderSource.below(root)


def _open_records(text: str, features: Features) -> TFRecordSource:
    pattern, told = with_features(text, features)
    pattern = local_path(pattern)
    if scheme_of(pattern):
        store = open_store(pattern)
        places, whole = store.matching(pattern), pattern
        root = fixed_part(pattern)
        files = [RecordFile(place, place.removeprefix(root), store) for place in places]
    else:
        whole = os.path.abspath(pattern)
        root = fixed_part(whole)
        places = sorted(one for one in glob.glob(whole, recursive=True) if os.path.isfile(one))
        files = [RecordFile(place, place.removeprefix(root)) for place in places]
    if not files:
        raise ConfigurationError(f"No file is named like {pattern}; TFRecord files are named by a pattern, such as "
                                 f"{RECORDS}'data/train-*.tfrecord'.")  # fmt: skip
    if bad := [file.place for file in files if any("\ud800" <= letter <= "\udfff" for letter in file.place)]:
        raise ConfigurationError(f"{bad[0]} is not valid UTF-8; rename it.")
    parts = [Part(file) for file in files]
    return TFRecordSource(os.path.basename(pattern), f"{RECORDS}{whole}", parts, features=told)


def fixed_part(pattern: str) -> str:
    """Return the folders before the first one of a pattern that holds a wild card, with a slash at the end."""
    folders = pattern.split("/")[:-1]
    fixed = next((at for at, folder in enumerate(folders) if _MAGIC & set(folder)), len(folders))
    return "/".join(folders[:fixed]) + "/"


def is_folder(text: str) -> bool:
    """Tell whether a SOURCE argument stands for a folder, or for what looks like the name of one."""
    return _kind(text) == "folder" and (text.partition("/")[0] not in BUILTIN or Path(text).is_dir())


def has_wild_cards(pattern: str) -> bool:
    """Tell whether a text is a pattern."""
    return bool(_MAGIC & set(pattern))


def local_path(text: str) -> str:
    """Return the path of a file:// URL; any other text as it is.

    Raises:
        ConfigurationError: It names a file of another machine.
    """
    if scheme_of(text) != "file":
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError(f"{text} names a file of another machine.")
    return url2pathname(parts.path)
