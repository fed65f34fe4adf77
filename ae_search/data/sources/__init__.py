"""Sources of images: built-in arrays, folders, TFRecord files, tables, data sets; local, or in an object store."""

from ae_search.data.sources.arrays import ArraySource
from ae_search.data.sources.dataset import DatasetSource
from ae_search.data.sources.features import Features
from ae_search.data.sources.folder import FolderSource
from ae_search.data.sources.object_folder import ObjectFolderSource
from ae_search.data.sources.opening import SourceOptions, open_source
from ae_search.data.sources.reading import read_file, read_files
from ae_search.data.sources.source import Pixels, Source, Stamp, class_counts, source_name, summary
from ae_search.data.sources.table import TableSource
from ae_search.data.sources.tfrecord import TFRecordSource

__all__ = [
    "ArraySource",
    "DatasetSource",
    "Features",
    "FolderSource",
    "ObjectFolderSource",
    "Pixels",
    "Source",
    "SourceOptions",
    "Stamp",
    "TFRecordSource",
    "TableSource",
    "class_counts",
    "open_source",
    "read_file",
    "read_files",
    "source_name",
    "summary",
]
