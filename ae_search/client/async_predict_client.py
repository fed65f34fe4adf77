"""Any model of any TensorFlow Serving over gRPC, for programs on asyncio."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from ae_search.client.async_line import AsyncLine
from ae_search.client.model_client import ModelClient
from ae_search.client.predicting import Inputs, ModelMetadata, Outputs, metadata, predict
from ae_search.client.versions import VersionState, status
from ae_search.contract import SIGNATURE_FLOAT


class AsyncPredictClient(ModelClient):
    """`PredictClient` for asyncio: the same options, behaviour and errors; one event loop, any number of tasks.

    Large tensors are packed and read in threads, so that the event loop goes on meanwhile.

    Args:
        target: As the others, see `PredictClient`.

    Example:
        async with AsyncPredictClient("127.0.0.1:8500", "half_plus_two") as client:
            outputs = await client.predict({"x": np.array([1.0, 2.0], np.float32)})
    """

    line: AsyncLine

    def _connect(self) -> None:
        self._access.check(self.target)
        self._access.tls_files()  # what is wrong with them is told now, not by the first call
        self.line = AsyncLine(self.target, self._access, self._timeouts, self._max_answer_bytes)

    async def close(self) -> None:
        """Close the channel; clients made by `at_version` share it."""
        await self.line.close()

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        await self.close()

    async def predict(
        self, inputs: Inputs, signature: str = SIGNATURE_FLOAT, *, outputs: Iterable[str] | None = None
    ) -> Outputs:
        """Run a signature, and return its outputs by name; see `PredictClient.predict`."""
        found: Outputs = await self.line.carry_out(predict(self.asked, inputs, signature, outputs))
        return found

    async def metadata(self) -> ModelMetadata:
        """Return the signatures of the model; see `PredictClient.metadata`."""
        found: ModelMetadata = await self.line.carry_out(metadata(self.asked))
        return found

    async def status(self) -> list[VersionState]:
        """Return the state of every version; see `PredictClient.status`."""
        states: list[VersionState] = await self.line.carry_out(status(self.asked))
        return states
