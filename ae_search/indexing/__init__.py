"""Index the images of a source: build, add, update, sync, rebuild with another model."""

from ae_search.indexing.jobs import ChangeReport, IndexReport, add_source, index_source, update_source
from ae_search.indexing.rebuilding import rebuild
from ae_search.indexing.syncing import SyncReport, sync_source

__all__ = [
    "ChangeReport",
    "IndexReport",
    "SyncReport",
    "add_source",
    "index_source",
    "rebuild",
    "sync_source",
    "update_source",
]
