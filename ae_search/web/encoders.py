"""What turns the images of requests into latents: a model server, or a model in this process."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy.typing as npt

from ae_search.client import Access, AsyncLatentClient, LatentClient
from ae_search.contract import AsyncEncoder, Encoder, FileInputs, Latents, ModelCard, OnBad, Pictures
from ae_search.cores import cores


class EncoderOptions(Protocol):
    """Where latents come from; a process of the service makes its encoders of it."""

    def check(self) -> None:
        """Check what does not depend on others, before a service starts.

        Raises:
            AeSearchError: No encoder can be made of it.
        """

    def for_loop(self) -> AsyncEncoder:
        """Return an encoder for the event loop that runs."""

    def blocking(self) -> Encoder:
        """Return an encoder for threads."""


@dataclass(frozen=True)
class Served:
    """A model server; see `LatentClient`."""

    target: str
    model: str
    version: int | None = None
    label: str | None = None
    access: Access | None = None
    timeout_s: float = 30.0
    total_timeout_s: float | None = None

    def check(self) -> None:
        """Check nothing: the server may come later."""

    def for_loop(self) -> AsyncEncoder:
        """Return a client for the event loop that runs."""
        return AsyncLatentClient(self.target, self.model, **self._others)

    def blocking(self) -> Encoder:
        """Return a client for threads."""
        return LatentClient(self.target, self.model, **self._others)

    @property
    def _others(self) -> dict[str, Any]:
        names = ("version", "label", "access", "timeout_s", "total_timeout_s")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class InProcess:
    """An exported model that runs in this process; see `LocalEncoder`."""

    path: Path
    version: int | None = None
    trust: bool = False

    def check(self) -> None:
        """Load the model."""
        self.blocking()

    def for_loop(self) -> AsyncEncoder:
        """Return the model, in threads of its own."""
        return ThreadedEncoder(self.blocking(), ThreadPoolExecutor(cores(), thread_name_prefix="ae-search-model"))

    def blocking(self) -> Encoder:
        """Return the model, which is loaded once."""
        return self._model

    @cached_property
    def _model(self) -> Encoder:
        from ae_search.quiet_import import load_tensorflow

        load_tensorflow()
        from ae_search.model_server import LocalEncoder

        encoder = LocalEncoder(self.path, trust=self.trust)
        return encoder if self.version is None else encoder.at_version(self.version)


class ThreadedEncoder:
    """An encoder that blocks, for an event loop: an `AsyncEncoder`."""

    def __init__(self, encoder: Encoder, pool: ThreadPoolExecutor) -> None:
        """Take the encoder, and the threads that it runs in."""
        self._encoder, self._pool = encoder, pool

    async def encode(self, images: npt.ArrayLike) -> Latents:
        """Return the latents `[n, d]` of `images` `[n, h, w, c]`."""
        latents: Latents = await self._run(partial(self._encoder.encode, images))
        return latents

    async def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return the latents `[n, d]` of image files, given as paths or as their bytes."""
        latents: Latents = await self._run(partial(self._encoder.encode_files, files, on_bad=on_bad))
        return latents

    async def decode(self, latents: npt.ArrayLike) -> Pictures:
        """Return what the model's decoder makes of latents `[n, d]`: `[n, h, w, c]` in [0, 1]."""
        pictures: Pictures = await self._run(partial(self._encoder.decode, latents))
        return pictures

    async def describe(self) -> ModelCard:
        """Return the model card, its version the one that answers."""
        card: ModelCard = await self._run(self._encoder.describe)
        return card

    def at_version(self, version: int) -> Self:
        """Return the same encoder pinned to a version."""
        return type(self)(self._encoder.at_version(version), self._pool)

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
