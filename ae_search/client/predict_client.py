"""Any model of any TensorFlow Serving over gRPC, blocking."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from ae_search.client.line import Line
from ae_search.client.model_client import ModelClient
from ae_search.client.predicting import Inputs, ModelMetadata, Outputs, metadata, predict
from ae_search.client.versions import VersionState, status
from ae_search.contract import SIGNATURE_FLOAT


class PredictClient(ModelClient):
    """Runs the signatures of a model on TensorFlow Serving, whoever made it, over one gRPC channel.

    It needs no TensorFlow. It is safe to use from several threads.

    A request is sent again, with jitter, until `timeout_s` is over, where the server has no thread left or its batching
    queue is full, and where a server that has answered this client before is away. A server that never answered is
    asked 5 times, within about three seconds. After any other error nothing is sent again, and gRPC itself repeats
    nothing. A model may run twice for one request, where a server goes away before its answer has arrived.

    A client can be pickled and copied, also to another process: what arrives opens a channel of its own, pinned as the
    first one was, and open even if that one was closed. The pickle holds the arguments: a token or header that `Access`
    was given as text is in it; of certificates and of a token file it is the path.

    Args:
        target: "HOST:PORT" or a gRPC target such as "dns:///serving:8500", whose addresses take turns.
        model: Name that the server serves the model under.
        version: Version to pin; None for the newest.
        label: Label of the version to pin, in place of its number.
        access: TLS, credentials and metadata to send. Plain text goes to this machine only, unless
            `Access(insecure=True)`.
        timeout_s: Seconds allowed for each request, its repetitions included.
        total_timeout_s: Seconds allowed for a whole call, however many requests it takes; None for no such limit.
        max_answer_bytes: Bytes that an answer may have, below 2 GiB; 64 MiB unless given.

    Raises:
        ConfigurationError: `target` is no gRPC target, plain text would leave this machine, a TLS file is wrong, both
            version and label are given, or there is no time allowed.

    Example:
        with PredictClient("127.0.0.1:8500", "half_plus_two") as client:
            outputs = client.predict({"x": np.array([1.0, 2.0], np.float32)})
    """

    line: Line

    def _connect(self) -> None:
        self.line = Line(self.target, self._access, self._timeouts, self._max_answer_bytes)

    def close(self) -> None:
        """Close the channel; clients made by `at_version` share it."""
        self.line.close()

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        self.close()

    def predict(
        self, inputs: Inputs, signature: str = SIGNATURE_FLOAT, *, outputs: Iterable[str] | None = None
    ) -> Outputs:
        """Run a signature in one request, and return its outputs by name.

        Args:
            inputs: An array for each input, by name, in the dtype that the model takes: floats and integers of any
                width, complex, bool, `bfloat16` of ml_dtypes; strings as bytes or str, which goes as UTF-8.
            signature: The signature.
            outputs: Names of the outputs to return; None for all.

        Returns:
            Arrays by name. Strings come as bytes in an object array, bfloat16 as float32, quantized numbers as the
            integers that they are stored as.

        Raises:
            ConfigurationError: The inputs cannot be sent, are too large, or the server refuses them.
            ServerError: The server cannot be reached, is too slow, lacks the model or the signature, or answers
                nonsense or more than `max_answer_bytes`.
        """
        found: Outputs = self.line.carry_out(predict(self.asked, inputs, signature, outputs))
        return found

    def metadata(self) -> ModelMetadata:
        """Return the signatures of the model, and the version that answered.

        Raises:
            ServerError: The server cannot be reached, does not serve the model, or answers nonsense.
        """
        found: ModelMetadata = self.line.carry_out(metadata(self.asked))
        return found

    def status(self) -> list[VersionState]:
        """Return the state of every version of the model that the server knows, as it lists them.

        Raises:
            ServerError: The server cannot be reached or does not know the model.
        """
        states: list[VersionState] = self.line.carry_out(status(self.asked))
        return states
