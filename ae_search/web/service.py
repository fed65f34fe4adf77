"""What one process of the service holds: the index, the encoder, the search, and threads for what blocks."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, TypeVar

from ae_search.calibration import Calibration, stored
from ae_search.client import AsyncLatentClient, LatentClient
from ae_search.contract import AsyncEncoder, Encoder, Index, ModelRef
from ae_search.cores import cores
from ae_search.drift import QueryLog
from ae_search.errors import AeSearchError, ModelMismatchError
from ae_search.open_index import open_index
from ae_search.regions import has_regions
from ae_search.search import AsyncImageSearch
from ae_search.trust import Usual
from ae_search.trust import stored as stored_usual
from ae_search.web.listings import Listings
from ae_search.web.metrics import Metrics
from ae_search.web.options import LogOptions, ServiceOptions
from ae_search.web.problems import Problem
from ae_search.web.uploads import Uploads

T = TypeVar("T")

READY_S = 5.0
# Whoever opens the page waits so long to be told whether the model has a decoder, in s.
_DECODES_S = 1.0
# What is counted over all items is as old as this at most, in s.
_FRESH_S = 30.0
_KEPT_COUNTS = 8


class Service:
    """One process.

    Attributes:
        options: How it runs.
        index: The index.
        search: What answers.
        uploads: Images that are kept; None where none are.
        listings: What was found for the pages to come.
        metrics: Its figures.
        query_log: Where queries are noted; None where they are not.
        explaining: Lets so many explanations be made at once, each of which holds many pictures.
    """

    search: AsyncImageSearch

    def __init__(self, options: ServiceOptions) -> None:
        """Open the index.

        Raises:
            ConfigurationError: There is none, or queries cannot be noted.
        """
        self.options = options
        self.index: Index = open_index(options.place)
        self.metrics = Metrics(self.index.__len__)
        folder = options.uploads.folder if options.uploads.kept_s else None
        self.uploads = None if folder is None else Uploads(folder, options.uploads)
        self.listings = Listings()
        self.query_log = None if options.query_log is None else query_log(options.query_log)
        self.explaining = asyncio.Semaphore(cores())
        self._readers = ThreadPoolExecutor(max(4, cores()), thread_name_prefix="ae-search-web")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ae-search-write")
        self._encoder: AsyncEncoder | None = None
        self._counted: dict[str, tuple[float, Any]] = {}

    async def open(self) -> None:
        """Make ready to search; the model server need not be there yet."""
        self._encoder = self.options.encoder.for_loop()
        self.search = AsyncImageSearch(self._encoder, self.index)

    async def close(self) -> None:
        """Let go of everything."""
        await self.search.close()
        if isinstance(self._encoder, AsyncLatentClient):
            await self._encoder.close()
        for pool in (self._readers, self._writer):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        if self.query_log is not None:
            await asyncio.to_thread(self.query_log.close)
        if isinstance(made := vars(self).get("blocking_encoder"), LatentClient):
            made.close()
        self.index.close()

    async def in_thread(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Do what blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, partial(work, *arguments, **named))

    async def write(self, work: Callable[[Index], T]) -> T:
        """Change the index, one change at a time; what was counted and found before is forgotten."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._writer, work, self.index)
        finally:
            self.forget()

    def forget(self) -> None:
        """Forget what was counted and found."""
        self._counted.clear()
        self.listings.clear()

    @cached_property
    def blocking_encoder(self) -> Encoder:
        """An encoder for changes of the index, which are made in a thread."""
        return self.options.encoder.blocking()

    async def counted(self, name: str, count: Callable[[Index], T]) -> T:
        """Return what is counted over all items, of half a minute ago at most."""
        found = self._counted.get(name)
        if found is None or time.monotonic() - found[0] > _FRESH_S:
            found = self._counted[name] = (time.monotonic(), await self.in_thread(count, self.index))
            for old in list(self._counted)[:-_KEPT_COUNTS]:
                del self._counted[old]
        result: T = found[1]
        return result

    async def calibration(self) -> Calibration | None:
        """Return the index's calibration, None where it has none."""
        return await self.counted("calibration", stored)

    async def usual(self) -> Usual | None:
        """Return what the index keeps to compare queries with, None where it keeps nothing."""
        return await self.counted("usual", stored_usual)

    async def has_regions(self) -> bool:
        """Return whether the index holds latents of regions."""
        return await self.counted("regions", has_regions)

    async def decodes(self) -> bool:
        """Return whether the model has a decoder; False as well where it does not answer soon."""
        if self.search.card is None:
            try:
                async with asyncio.timeout(_DECODES_S):
                    await self.search.encoder()
            except (AeSearchError, TimeoutError):
                return False
        return self.search.card is not None and self.search.card.decodes

    async def model(self) -> ModelRef:
        """Return the model whose latents the index holds by now."""
        return await self.in_thread(lambda: self.index.model)

    async def ready(self) -> ModelRef:
        """Return the model of index and encoder, which answer and belong together.

        Raises:
            AeSearchError: They do not.
            Problem: There was no answer in time.
        """
        try:
            async with asyncio.timeout(READY_S):
                model = await self.model()
                card = await (await self.search.encoder()).describe()
        except TimeoutError as error:
            raise Problem("ServerTimeoutError") from error
        if card.fingerprint != model.fingerprint:
            raise ModelMismatchError(f"{model.name} is indexed, {card.name} of another fingerprint answers.")
        return model


def query_log(options: LogOptions) -> QueryLog:
    """Return a log of queries.

    Raises:
        ConfigurationError: Its folder cannot be written, or pyarrow is missing.
    """
    return QueryLog(options.folder, latents=options.latents)
