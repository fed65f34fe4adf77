"""Image sources: built-in data sets and folders of images.

Naming and listing images needs no TensorFlow; `decode` and `pipeline` do and are imported by those who train or export.
"""

from ae_search.data.sources import ArraySource, FolderSource, Source, open_source, source_name

__all__ = ["ArraySource", "FolderSource", "Source", "open_source", "source_name"]
