"""Latents over gRPC, for programs on asyncio."""

import numpy.typing as npt

from ae_search.client.async_predict_client import AsyncPredictClient
from ae_search.client.model_client import EncoderClient
from ae_search.contract import FileInputs, Latents, ModelCard, OnBad, Pictures, file_batch
from ae_search.errors import ImageError
from ae_search.image_file import may_be_converted


class AsyncLatentClient(EncoderClient, AsyncPredictClient):
    """`LatentClient` for asyncio: the same options, behaviour and errors; one event loop, any number of tasks.

    Files are read, and turned into PNG where that is needed, in threads, so that the event loop goes on meanwhile.

    Args:
        target: As the others, see `LatentClient`.

    Example:
        async with AsyncLatentClient("127.0.0.1:8500", model="fashion") as client:
            latents = await client.encode_files(["photo.jpg"])
    """

    async def describe(self) -> ModelCard:
        """Return the model card; see `LatentClient.describe`."""
        card: ModelCard = await self.line.carry_out(self.talk.describe())
        return card

    async def encode(self, images: npt.ArrayLike) -> Latents:
        """Return latents `[n, d]` float32 of pixels; see `LatentClient.encode`."""
        latents: Latents = await self.line.carry_out(self.talk.encode(images))
        return latents

    async def encode_files(self, files: FileInputs, *, on_bad: OnBad | None = None) -> Latents:
        """Return latents `[n, d]` float32 of image files; see `LatentClient.encode_files`."""
        batch: FileInputs = file_batch(files)  # type: ignore[assignment]
        reads = any(not isinstance(file, bytes) or may_be_converted(file) for file in batch)
        bad: dict[int, ImageError] = {}
        take_note = None if on_bad is None else bad.__setitem__
        latents: Latents = await self.line.carry_out(self.talk.encode_files(batch, take_note), in_thread=reads)
        if on_bad is not None:  # here, because conversations that read files run in threads
            for position, error in bad.items():
                on_bad(position, error)
        return latents

    async def decode(self, latents: npt.ArrayLike) -> Pictures:
        """Return the images of latents `[n, d]`, float32 `[n, h, w, c]` in [0, 1]; see `LatentClient.decode`."""
        pictures: Pictures = await self.line.carry_out(self.talk.decode(latents))
        return pictures
