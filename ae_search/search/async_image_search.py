"""Search by image, for programs on asyncio."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from ae_search.contract import AsyncEncoder, Index, ModelCard, ModelRef, Neighbour, Where
from ae_search.cores import cores
from ae_search.explaining import PARTS, STEPS, Explanation
from ae_search.plan import carry_out_on_loop
from ae_search.search.as_files import ImageInput
from ae_search.search.candidates import Candidate
from ae_search.search.examples import by_example, check_examples
from ae_search.search.explained import LatentOf, explained, latent_itself, latent_of_query
from ae_search.search.query import Images, Match, QueryOptions, answered, judged, looks_plain, matched
from ae_search.search.trusting import TrustOptions, trusted
from ae_search.trust import Trusted


class AsyncImageSearch:
    """`ImageSearch` for asyncio: the same verbs, behaviour and errors; one event loop, any number of tasks.

    The encoder answers on the event loop. The index, views and files have threads of their own, so that the loop goes
    on meanwhile. The handshake is made by `async with`, or by the first search. To close the search closes neither the
    encoder nor the index.

    Args:
        encoder: `AsyncLatentClient`.
        index: The index.
        threads: Searches of the index that run at once, at least 1; the others wait for their turn. None for as many as
            there are cores.

    Attributes:
        index: The index.

    Example:
        client, index = AsyncLatentClient("127.0.0.1:8500", model="fashion"), LatentIndex.open("index")
        async with client, AsyncImageSearch(client, index) as search:
            found = await asyncio.gather(*(search.search(photo) for photo in photos))
    """

    def __init__(self, encoder: AsyncEncoder, index: Index, *, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1. Received: {threads}.")
        self.index = index
        self._given, self._threads = encoder, threads
        self._begin()

    def _begin(self) -> None:
        self._closed = False
        self._match: Match | None = None
        self._handshake: asyncio.Task[Match] | None = None
        # It starts a thread when there is work for one.
        self._pool = ThreadPoolExecutor(self._threads or cores(), thread_name_prefix="ae-search")

    def __getstate__(self) -> dict[str, Any]:
        made = ("_closed", "_match", "_handshake", "_pool")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    async def __aenter__(self) -> Self:
        """Shake hands, and return the search.

        Raises:
            ModelMismatchError: The encoder has no version with the index's fingerprint.
            ServerError: The encoder does not answer.
        """
        try:
            await self._agree(None)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the search."""
        await self.close()

    async def close(self) -> None:
        """Let the threads finish what they do, and end them; encoder and index stay open."""
        self._closed = True
        if self._handshake is not None and self._handshake.get_loop() is asyncio.get_running_loop():
            self._handshake.cancel()
        await asyncio.to_thread(self._pool.shutdown)

    @property
    def model(self) -> ModelRef | None:
        """The model that encoder and index agreed on last, None before they did."""
        match = self._match
        return None if match is None else match.model

    @property
    def card(self) -> ModelCard | None:
        """The card of that model."""
        match = self._match
        return None if match is None else match.card

    async def encoder(self) -> AsyncEncoder:
        """Return the encoder, pinned to the index's version."""
        encoder: AsyncEncoder = (await self._agree(None)).encoder
        return encoder

    async def search(
        self,
        image: ImageInput | None = None,
        k: int = 10,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[Neighbour]:
        """Return the `k` most similar images, the most similar first; see `ImageSearch.search`."""
        self._check_open()
        examples = check_examples(like, unlike, has_image=image is not None, views=views)
        if image is None:
            found: list[Neighbour] = await self._in_thread(
                partial(by_example, self.index, examples, k, where=where, effort=effort, exact=exact)
            )
            return found
        query = QueryOptions(k, where, effort, exact, views, examples)
        return (await carry_out_on_loop(answered(self._agree, self.index, [image], query), self._in_thread))[0]

    async def search_batch(
        self,
        images: Images,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[list[Neighbour]]:
        """Return the `k` most similar images for each of `images`, which may be of several kinds."""
        self._check_open()
        query = QueryOptions(k, where, effort, exact, views)
        return await carry_out_on_loop(answered(self._agree, self.index, images, query), self._in_thread)

    async def originals(
        self,
        image: ImageInput,
        k: int = 3,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = True,
    ) -> list[Candidate]:
        """Return the `k` best candidates for the original of an image; see `ImageSearch.originals`."""
        return (await self.originals_batch([image], k, where=where, effort=effort, exact=exact, views=views))[0]

    async def originals_batch(
        self,
        images: Images,
        k: int = 3,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = True,
    ) -> list[list[Candidate]]:
        """Return the `k` best candidates for the original of each of `images`, which may be of several kinds."""
        self._check_open()
        query = QueryOptions(k, where, effort, exact, views)
        return await carry_out_on_loop(judged(self._agree, self.index, images, query), self._in_thread)

    async def search_with_trust(
        self,
        image: ImageInput,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
        check_reconstruction: bool = False,
    ) -> Trusted:
        """Return what `search` does, and whether to believe it; see `ImageSearch.search_with_trust`."""
        query = TrustOptions(QueryOptions(k, where, effort, exact, views), check_reconstruction)
        return (await self._trusted([image], query))[0]

    async def search_with_trust_batch(
        self,
        images: Images,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
        check_reconstruction: bool = False,
    ) -> list[Trusted]:
        """Return what `search_with_trust` does for each of `images`, which may be of several kinds."""
        query = TrustOptions(QueryOptions(k, where, effort, exact, views), check_reconstruction)
        return await self._trusted(images, query)

    async def _trusted(self, images: Images, query: TrustOptions) -> list[Trusted]:
        self._check_open()
        return await carry_out_on_loop(trusted(self._agree, self.index, images, query), self._in_thread)

    async def explain(
        self,
        image: ImageInput | None,
        key: str,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        steps: int = STEPS,
        parts: int = PARTS,
    ) -> Explanation:
        """Return why an image and an item are similar; see `ImageSearch.explain`."""
        query = latent_of_query(self.index, image, like=like, unlike=unlike)
        return await self._explained(query, key, steps, parts)

    async def explain_latent(
        self, latent: npt.ArrayLike, key: str, *, steps: int = STEPS, parts: int = PARTS
    ) -> Explanation:
        """Return what `explain` does for a latent `[d]` of the index's model, such as that of another item."""
        return await self._explained(latent_itself(latent), key, steps, parts)

    async def _explained(self, query: LatentOf, key: str, steps: int, parts: int) -> Explanation:
        self._check_open()
        plan = explained(self._agree, self.index, query, key, steps=steps, parts=parts)
        return await carry_out_on_loop(plan, self._in_thread)

    async def plain(self, image: ImageInput) -> bool:
        """Return whether an image is of one colour and has no meaningful neighbours; see `ImageSearch.plain`."""
        self._check_open()
        found: bool = await self._in_thread(partial(looks_plain, image))
        return found

    async def _agree(self, stale: Match | None) -> Match:
        """Return the match, made anew if there is none but a stale one: once for all tasks that wait for it."""
        if self._match is not None and self._match is not stale:
            return self._match
        self._check_open()
        task, loop = self._handshake, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            task = self._handshake = loop.create_task(self._matched())
            task.add_done_callback(lambda one: one.cancelled() or one.exception())  # nobody may be left to wait for it
        try:
            # A task that is cancelled while it waits leaves the handshake to the others.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            waiting = asyncio.current_task()
            if waiting is not None and not waiting.cancelling():  # it was `close` that cancelled the handshake
                self._check_open()
            raise

    async def _matched(self) -> Match:
        self._match = match = await carry_out_on_loop(matched(self._given, self.index), self._in_thread)
        return match

    def _in_thread(self, run: Callable[[], Any]) -> "asyncio.Future[Any]":
        self._check_open()
        return asyncio.get_running_loop().run_in_executor(self._pool, run)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("The search is closed.")
