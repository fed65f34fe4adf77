"""How a Predict request is run: alone on a thread, or joined with others."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

import grpc
from tensorflow_serving.apis import predict_pb2

from ae_search.contract import SIGNATURE_FLOAT
from ae_search.model_server.batching import Batcher
from ae_search.model_server.refusal import EXHAUSTED, RequestRefused
from ae_search.model_server.servable import Outputs, Servable
from ae_search.model_server.served_model import ServedModel
from ae_search.model_server.tensors import QUICK_VALUES, encode_tensor, is_quick

T = TypeVar("T")


class Predicting:
    """Answers Predict in the server's event loop.

    Without batching, a request takes one of `threads`, and is refused at once when none is free. With batching, a
    request waits in its queue and holds no thread; what bounds the waiting is the queue. What takes long to decode or
    encode is given to a thread all the same: the event loop answers everybody, also the health service.
    """

    def __init__(
        self, model: ServedModel, executor: Executor, *, threads: int, batcher: Batcher | None, as_content: bool
    ) -> None:
        self._model = model
        self._executor = executor
        self._free = threads
        self._batcher = batcher
        self._as_content = as_content

    async def answer(self, request: Any) -> Any:
        """Return the `PredictResponse` of a `PredictRequest`.

        Raises:
            RequestRefused: It cannot be answered.
        """
        servable = self._model.servable(request.model_spec)
        signature = request.model_spec.signature_name or SIGNATURE_FLOAT
        names = servable.output_names(signature, request.output_filter)
        if self._batcher is not None and servable.has_rows(signature):
            return await self._joined(request, servable, names, self._batcher)
        return await self._on_a_thread(self._run, request, servable, names)

    async def _joined(self, request: Any, servable: Servable, names: list[str], batcher: Batcher) -> Any:
        signature = request.model_spec.signature_name or SIGNATURE_FLOAT
        if all(map(is_quick, request.inputs.values())):
            inputs = servable.prepare(signature, request.inputs)
        else:
            inputs = await self._on_a_thread(servable.prepare, signature, request.inputs)
        outputs = await batcher.run(servable, signature, inputs)
        if sum(outputs[name].size for name in names) <= QUICK_VALUES:
            return self._response(request, servable, names, outputs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._response, request, servable, names, outputs)

    async def _on_a_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        if not self._free:
            raise RequestRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, EXHAUSTED)
        self._free -= 1
        run = asyncio.get_running_loop().run_in_executor(self._executor, work, *arguments)
        # A caller that goes away does not free the thread that runs its request.
        run.add_done_callback(self._note_free)
        return await asyncio.shield(run)

    def _note_free(self, run: "asyncio.Future[Any]") -> None:
        self._free += 1
        if not run.cancelled():
            run.exception()  # nobody may be left to look at it

    def _run(self, request: Any, servable: Servable, names: list[str]) -> Any:
        signature = request.model_spec.signature_name or SIGNATURE_FLOAT
        outputs = servable.execute(signature, servable.prepare(signature, request.inputs))
        return self._response(request, servable, names, outputs)

    def _response(self, request: Any, servable: Servable, names: list[str], outputs: Outputs) -> Any:
        """Say what answered, the model under the name it was asked by, and how."""
        response = predict_pb2.PredictResponse()
        spec = response.model_spec
        spec.name = request.model_spec.name
        spec.version.value = servable.version
        spec.signature_name = request.model_spec.signature_name or SIGNATURE_FLOAT
        for name in names:
            response.outputs[name].CopyFrom(encode_tensor(outputs[name], as_content=self._as_content))
        return response
