"""An index on Milvus; needs the extra `milvus`."""

import logging

from ae_search.extras import needs

with needs("An index on Milvus needs pymilvus", "milvus"):
    import pymilvus  # noqa: F401

# It writes each error to stderr with its traceback, also those that are met and answered here.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

from ae_search.remote_index.milvus.builder import MilvusBuilder  # noqa: E402
from ae_search.remote_index.milvus.milvus_index import MilvusIndex  # noqa: E402
from ae_search.remote_index.milvus.options import MilvusOptions  # noqa: E402
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace  # noqa: E402
from ae_search.remote_index.milvus.upkeep.verify import verify  # noqa: E402

__all__ = ["Consistency", "MilvusBuilder", "MilvusIndex", "MilvusOptions", "MilvusPlace", "verify"]
