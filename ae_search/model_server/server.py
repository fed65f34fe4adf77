"""The embedded model server: TensorFlow Serving's gRPC API in a Python process."""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from ae_search.model_server.batching import Batcher
from ae_search.model_server.event_loop import EventLoopThread
from ae_search.model_server.health import HealthServicer
from ae_search.model_server.listening import Listening
from ae_search.model_server.metrics import ServerMetrics
from ae_search.model_server.options import Batching, Limits, ServerTls, default_threads
from ae_search.model_server.policy import Labels, VersionPolicy
from ae_search.model_server.predicting import Predicting
from ae_search.model_server.receiving import Receiving
from ae_search.model_server.served_model import ServedModel
from ae_search.model_server.servicers import ModelServicer, PredictionServicer
from ae_search.model_server.versions import ModelVersions

log = logging.getLogger(__name__)

MIB = 2**20
MAX_MESSAGE_MIB = 64
DRAIN_S = 10.0
# gRPC takes the number of bytes as int32, and a port of 70000 for one of 4464.
MAX_MAX_MESSAGE_MIB = 2047
MAX_PORT = 65535
MAX_THREADS = 10_000


class ModelServer:
    """Serve the versions under a base path, and newer ones as they appear.

    It answers PredictionService (Predict, GetModelMetadata), ModelService (GetModelStatus) and the standard gRPC health
    service. Without `tls` everything is sent in plain text; who may call is decided by `ServerTls.client_ca` alone.

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
        workers: int | None = None,
        poll_interval_s: float = 1.0,
        enable_serialization_as_tensor_content: bool = False,
        version_policy: VersionPolicy | None = None,
        labels: Labels | None = None,
        batching: Batching | None = None,
        tls: ServerTls | None = None,
        max_message_mib: int = MAX_MESSAGE_MIB,
        drain_s: float = DRAIN_S,
        metrics_port: int | None = None,
        limits: Limits | None = None,
        interceptors: Sequence[Any] = (),
        trust: bool = False,
    ) -> None:
        """Take the options; `start` does the work.

        Args:
            base_path: Folder with the version folders.
            model_name: Name to answer to; the folder's name when left out. "default" is answered to as well.
            host: Address to listen on.
            port: Port to listen on; 0 picks a free one.
            workers: Predict requests run at a time, at least 1; more are refused with RESOURCE_EXHAUSTED. 4 for each
                core when left out. Requests that wait to be joined by `batching` do not count, unless their inputs are
                both large and slow to decode.
            poll_interval_s: Seconds between two looks at the base path.
            enable_serialization_as_tensor_content: Answer outputs as `tensor_content`, the flag of this name of
                TensorFlow Serving.
            version_policy: Which versions are served; the newest when left out.
            labels: Names for versions.
            batching: Join requests that arrive together; each runs on its own when left out.
            tls: Files for TLS; plain text when left out.
            max_message_mib: MiB of the largest request and answer, 1 to 2047.
            drain_s: Seconds that requests under way have to end when the `with` block is left.
            metrics_port: Port for Prometheus on `host`; 0 picks a free one; none when left out.
            limits: Bounds on connections, calls and bytes that strangers hold.
            interceptors: `grpc.aio.ServerInterceptor`s, the first one outermost.
            trust: Serve models whatever their programs may do; refused are otherwise those that reach files, the
                network, Python or the terminal.

        Raises:
            ValueError: A number is out of its range.
        """
        _check_range("port", port, 0, MAX_PORT)
        _check_range("metrics_port", metrics_port, 0, MAX_PORT)
        _check_range("workers", workers, 1, MAX_THREADS)
        _check_range("max_message_mib", max_message_mib, 1, MAX_MAX_MESSAGE_MIB)
        self._base_path = Path(base_path).absolute()
        self.model_name = model_name or self._base_path.name
        self.host = host.removeprefix("[").removesuffix("]")
        self.port = port
        self.metrics_port = metrics_port
        self._threads = workers or default_threads()
        self._versions = ModelVersions(
            self._base_path, policy=version_policy, poll_interval_s=poll_interval_s, trust=trust
        )
        self._labels = labels or Labels()
        self._as_content = enable_serialization_as_tensor_content
        self._batching = batching
        self._tls = tls
        self._max_message_bytes = max_message_mib * MIB
        self._drain_s = drain_s
        self._receiving = Receiving(limits or Limits(), self._max_message_bytes)
        self._options = (limits or Limits()).channel_options()
        self._interceptors = [self._receiving, *interceptors]
        self._metrics: ServerMetrics | None = None
        self._health = HealthServicer()
        self._started = False
        self._listening: Listening | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._loop: EventLoopThread | None = None

    @property
    def address(self) -> str:
        """Host and port as a gRPC target."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def version(self) -> int | None:
        """The newest version served now, None before `start`."""
        return next(iter(self._versions.available()), None)

    def start(self) -> None:
        """Load the wanted versions, then listen; a server is started once.

        Raises:
            ConfigurationError: The base path has none of the wanted versions, a label names a version that is not
                available, the TLS files are wrong, or a port cannot be listened on.
            ExportError: None of the versions can be loaded.
        """
        if self._started:
            raise RuntimeError("A ModelServer is started once, also where that failed; make another one.")
        self._started = True
        credentials = self._tls.credentials() if self._tls else None
        if credentials is None and not _is_loopback(self.host):
            log.warning("listening on %s without TLS: whoever can reach it can read and send everything", self.host)
        try:
            self._versions.start()
            self._labels.check(self._versions.available())
            self._loop = EventLoopThread("model-server")
            self._start_metrics(self._loop)
            self._loop.run(self._listen(credentials))
        except BaseException:
            self.stop(0)
            raise
        served = ", ".join(map(str, self._versions.available()))
        log.info("serving %s version %s on %s", self.model_name, served, self.address)

    def stop(self, grace_s: float | None = None) -> None:
        """Report NOT_SERVING, refuse new requests, and let those under way end.

        Args:
            grace_s: Seconds after which the requests still under way are cancelled; `drain_s` when left out.
        """
        self._versions.stop()
        if self._loop is not None:
            self._loop.run(self._drain(self._drain_s if grace_s is None else grace_s))
            if self._metrics is not None:
                self._loop.run(self._metrics.stop())
            self._loop.close()
            self._loop = None
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._receiving.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_metrics(self, loop: EventLoopThread) -> None:
        if self.metrics_port is not None:
            self._metrics = ServerMetrics(self._versions.available)
            self.metrics_port = loop.run(self._metrics.start(self.host, self.metrics_port))
            log.info("metrics on http://%s:%d/metrics", self.host, self.metrics_port)

    async def _listen(self, credentials: Any) -> None:
        self._listening = Listening(
            self._services(),
            credentials=credentials,
            options=[
                *self._options,
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                # Otherwise a second server on the port would silently take half of the requests.
                ("grpc.so_reuseport", 0),
            ],
            interceptors=self._interceptors,
            drain_s=self._drain_s,
        )
        self.port = await self._listening.start(self.address.rpartition(":")[0], self.port)
        self._health.serve()

    def _services(self) -> Callable[[Any], None]:
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="predict")
        model = ServedModel(self.model_name, self._versions, self._labels.versions)
        batcher = None
        if self._batching is not None:
            on_run = self._metrics.observe_run if self._metrics else None
            batcher = Batcher(self._batching, self._executor, on_run=on_run)
        predicting = Predicting(
            model, self._executor, threads=self._threads, batcher=batcher, as_content=self._as_content
        )
        services: list[Any] = [
            PredictionServicer(model, predicting, self._metrics),
            ModelServicer(model, self._metrics),
            self._health,
        ]

        def add(server: Any) -> None:
            for service in services:
                service.add_to(server)

        return add

    async def _drain(self, grace_s: float) -> None:
        self._health.end()
        if self._listening is not None:
            await self._listening.stop(grace_s)


def _check_range(name: str, number: int | None, least: int, most: int) -> None:
    if number is not None and not least <= number <= most:
        raise ValueError(f"{name} must be from {least} to {most}. Received: {name}={number}.")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() in ("localhost", "ip6-localhost", "ip6-loopback")
