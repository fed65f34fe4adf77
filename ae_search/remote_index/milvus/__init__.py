"""An index on Milvus; needs the extra `milvus`."""

import logging
import logging.config
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ae_search.extras import needs

_DOTENV = "PYTHON_DOTENV_DISABLED"


@contextmanager
def _process_left_alone() -> Iterator[None]:
    """Keep pymilvus from changing the process that imports it.

    It configures logging, which ends the handlers of everyone else and closes what some of them write to, and it takes
    over the variables of an .env file that lies in the working folder.
    """
    before, configure = os.environ.get(_DOTENV), logging.config.dictConfig
    module: Any = logging.config
    os.environ[_DOTENV], module.dictConfig = "1", lambda _: None
    try:
        yield
    finally:
        module.dictConfig = configure
        if before is None:
            del os.environ[_DOTENV]
        else:
            os.environ[_DOTENV] = before


with needs("An index on Milvus needs pymilvus", "milvus"), _process_left_alone():
    import pymilvus  # noqa: F401

# It writes each error to stderr with its traceback, also those that are met and answered here.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

from ae_search.remote_index.milvus.builder import MilvusBuilder  # noqa: E402
from ae_search.remote_index.milvus.milvus_index import MilvusIndex  # noqa: E402
from ae_search.remote_index.milvus.options import MilvusOptions  # noqa: E402
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace  # noqa: E402
from ae_search.remote_index.milvus.upkeep.verify import verify  # noqa: E402

__all__ = ["Consistency", "MilvusBuilder", "MilvusIndex", "MilvusOptions", "MilvusPlace", "verify"]
