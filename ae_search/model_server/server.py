"""The embedded model server: TensorFlow Serving's gRPC API in a Python process."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from ae_search.errors import ConfigurationError
from ae_search.model_server.health import HealthServicer
from ae_search.model_server.servicers import ModelServicer, PredictionServicer, ServedModel
from ae_search.model_server.versions import ModelVersions

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 * 2**20


class ModelServer:
    """Serve the newest version under a base path, and newer ones as they appear.

    It answers PredictionService (Predict, GetModelMetadata), ModelService (GetModelStatus) and the standard gRPC health
    service. There is no TLS and no authentication.

    Example:
        with ModelServer("export/fashion") as server:
            print(server.address)
    """

    def __init__(
        self,
        base_path: Path | str,
        *,
        model_name: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        workers: int = 8,
        poll_interval_s: float = 1.0,
        enable_serialization_as_tensor_content: bool = False,
    ) -> None:
        """Take the options; `start` does the work.

        Args:
            base_path: Folder with the version folders.
            model_name: Name to answer to; the folder's name when left out. "default" is answered to as well.
            host: Address to listen on.
            port: Port to listen on; 0 picks a free one.
            workers: Requests answered at a time, at least 1.
            poll_interval_s: Seconds between two looks at the base path.
            enable_serialization_as_tensor_content: Answer outputs as `tensor_content`, the flag of this name of
                TensorFlow Serving.
        """
        self._base_path = Path(base_path).absolute()
        self.model_name = model_name or self._base_path.name
        self.host = host
        self.port = port
        self._workers = workers
        self._versions = ModelVersions(self._base_path, poll_interval_s=poll_interval_s)
        self._as_content = enable_serialization_as_tensor_content
        self._health = HealthServicer()
        self._server: grpc.Server | None = None
        self._executor: ThreadPoolExecutor | None = None

    @property
    def address(self) -> str:
        """Host and port as a gRPC target."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def version(self) -> int | None:
        """The version served now, None before `start`."""
        servable = self._versions.servable()
        return servable.version if servable else None

    def start(self) -> None:
        """Load the newest loadable version, then listen; a server is started once.

        Raises:
            ConfigurationError: The base path has no version folder, or the port cannot be listened on.
            ExportError: None of the versions can be loaded.
        """
        self._versions.start()
        try:
            self._listen()
        except ConfigurationError:
            self.stop(0)
            raise
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("serving %s version %s on %s", self.model_name, self.version, self.address)

    def stop(self, grace_s: float = 10.0) -> None:
        """Report NOT_SERVING, refuse new requests, and let those under way end.

        Args:
            grace_s: Seconds after which the requests still under way are cancelled.
        """
        self._health.enter_graceful_shutdown()
        self._versions.stop()
        if self._server is not None:
            stopped = self._server.stop(grace_s)
            self._health.end_watches()
            stopped.wait()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listen(self) -> None:
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            # Otherwise a second server on the port would silently take half of the requests.
            ("grpc.so_reuseport", 0),
        ]
        self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix="predict")
        self._server = grpc.server(self._executor, options=options)
        model = ServedModel(self.model_name, self._versions)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(model, as_content=self._as_content), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(model), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            self.port = self._server.add_insecure_port(self.address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"Cannot listen on {self.address}; is the port in use, or the host not of this machine?"
            ) from error
        self._server.start()
