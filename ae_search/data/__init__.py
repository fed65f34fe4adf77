"""Image sources: built-in data sets, folders of images, TFRecord files, tables, data sets of others.

Naming and listing images needs no TensorFlow; `decode` and `pipeline` do and are imported by those who train or export.
"""

from ae_search.data.sources import (
    ArraySource,
    DatasetSource,
    FolderSource,
    Source,
    SourceOptions,
    TableSource,
    TFRecordSource,
    open_source,
    source_name,
)

__all__ = [
    "ArraySource",
    "DatasetSource",
    "FolderSource",
    "Source",
    "SourceOptions",
    "TFRecordSource",
    "TableSource",
    "open_source",
    "source_name",
]
