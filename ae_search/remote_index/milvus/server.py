"""Calls to the server: each with a time limit and a level of consistency; safe between threads, anew after a fork."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from ae_search.contract import Latents
from ae_search.errors import AeSearchError, ServerTimeoutError
from ae_search.remote_index.milvus.failures import is_gone, mapped
from ae_search.remote_index.milvus.place import Consistency, MilvusPlace

Row = dict[str, Any]
Answer = TypeVar("Answer")

_CONNECT_S = 10.0
_POLL_S = 0.1
# What the server builds and loads takes as long as it takes, but for a server that does nothing at all.
_BUILD_S = 24 * 3600.0
_LEVELS: dict[Consistency, str] = {"strong": "Strong", "session": "Session", "bounded": "Bounded"}


class Server:
    """One Milvus, as an open index speaks to it.

    Args:
        place: The index.
    """

    def __init__(self, place: MilvusPlace) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None
        self._inherited: list[object] = []
        self._pid = os.getpid()
        self._is_closed = False

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        with self._lock:
            self._is_closed = True
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            client.close()

    def check_open(self) -> None:
        """Raise a ValueError where the index is closed."""
        if self._is_closed:
            raise ValueError(f"The index {self._place.name} is closed.")

    def version(self) -> str:
        """Return the server's version."""
        return str(self.call(lambda client, limit: client.get_server_version(timeout=limit)))

    def collections(self) -> list[str]:
        """Return the names of all collections of the database."""
        return list(self.call(lambda client, limit: client.list_collections(timeout=limit)))

    def resolved(self, name: str) -> str | None:
        """Return the collection that an alias stands for; None where there is none."""
        try:
            found = self.call(lambda client, limit: client.describe_collection(name, timeout=limit))
        except AeSearchError as error:
            if is_gone(error.__cause__):
                return None
            raise
        return str(found["collection_name"])

    def query(
        self,
        collection: str,
        condition: str,
        fields: Sequence[str],
        *,
        partition: str,
        level: Consistency,
        limit: int | None = None,
    ) -> list[Row]:
        """Return the rows that meet a condition, in no order."""
        more: dict[str, Any] = {} if limit is None else {"limit": limit}
        return [
            dict(row)
            for row in self.call(
                lambda client, seconds: client.query(
                    collection,
                    filter=condition,
                    output_fields=list(fields),
                    partition_names=[partition],
                    consistency_level=_LEVELS[level],
                    timeout=seconds,
                    **more,
                )
            )
        ]

    def search(
        self,
        collection: str,
        latents: Latents,
        fields: Sequence[str],
        *,
        partition: str,
        level: Consistency,
        limit: int,
        effort: int,
        condition: str = "",
    ) -> list[list[Row]]:
        """Return the rows near to each latent `[n, d]`, by the graph."""
        found = self.call(
            lambda client, seconds: client.search(
                collection,
                data=np.asarray(latents, np.float32).tolist(),
                anns_field="latent",
                filter=condition,
                limit=limit,
                output_fields=list(fields),
                partition_names=[partition],
                search_params={"params": {"ef": effort}},
                consistency_level=_LEVELS[level],
                timeout=seconds,
            )
        )
        return [[dict(hit["entity"]) for hit in hits] for hits in found]

    def insert(self, collection: str, rows: list[Row], partition: str) -> None:
        """Insert rows."""
        self.call(lambda client, limit: client.insert(collection, rows, partition_name=partition, timeout=limit))

    def delete(self, collection: str, numbers: Iterable[int], partition: str) -> None:
        """Delete rows by their primary keys."""
        listed = ", ".join(map(str, numbers))
        self.call(
            lambda client, limit: client.delete(
                collection, filter=f"pk in [{listed}]", partition_name=partition, timeout=limit
            )
        )

    def drop(self, collection: str) -> None:
        """Remove a collection, where it is there."""
        self.call(lambda client, limit: client.drop_collection(collection, timeout=limit))

    def call(self, work: Callable[[MilvusClient, float], Answer]) -> Answer:
        """Return what a call returns, which is given the client and how long it may take, in s."""
        client = self._now()
        with mapped(self._place.name, self._place.token):
            return work(client, self._place.timeout_s)

    def call_long(self, work: Callable[[MilvusClient, float], Answer]) -> Answer:
        """Return what a call returns that waits for the server to build or to load something."""
        client = self._now()
        with mapped(self._place.name, self._place.token):
            return work(client, _BUILD_S)

    def wait_until(self, is_done: Callable[[], bool], what: str) -> None:
        """Wait for the server to get something done.

        Raises:
            ServerTimeoutError: It has not, after a day.
        """
        end = time.monotonic() + _BUILD_S
        while not is_done():
            if time.monotonic() >= end:
                raise ServerTimeoutError(f"{self._place.name}: the server has not {what} within a day; see its log.")
            time.sleep(_POLL_S)

    def _now(self) -> MilvusClient:
        with self._lock:
            self.check_open()
            if self._pid != os.getpid():
                # The parent's connection goes on in the parent; it is neither used here nor ended.
                self._inherited.append(self._client)
                self._client, self._pid = None, os.getpid()
            if self._client is None:
                self._client = self._connected()
            return self._client

    def _connected(self) -> MilvusClient:
        place = self._place
        more = {"server_pem_path": place.ca} if place.ca else {}
        with mapped(place.name, place.token):
            try:
                return MilvusClient(
                    place.uri,
                    token=place.token,
                    db_name=place.database,
                    timeout=min(_CONNECT_S, place.timeout_s),
                    dedicated=True,
                    **more,
                )
            except OSError as error:  # a file of certificates that cannot be read
                raise MilvusException(message=str(error)) from error
