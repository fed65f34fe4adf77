"""Index the images of a source: build, add, update, rebuild with another model."""

from ae_search.indexing.jobs import ChangeReport, IndexReport, add_source, index_source, update_source
from ae_search.indexing.rebuilding import rebuild

__all__ = ["ChangeReport", "IndexReport", "add_source", "index_source", "rebuild", "update_source"]
