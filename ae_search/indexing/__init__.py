"""Index the images of a source: build, add, update, rebuild with another model."""

from ae_search.indexing.jobs import ChangeReport, IndexReport, add_source, index_source, rebuild, update_source

__all__ = ["ChangeReport", "IndexReport", "add_source", "index_source", "rebuild", "update_source"]
