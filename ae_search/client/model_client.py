"""What the clients have in common: which model they ask, where, and how patiently."""

from abc import ABC, abstractmethod
from typing import Any, Self

from ae_search.client.access import Access
from ae_search.client.channels import MAX_ANSWER_BYTES
from ae_search.client.chunks import ChunkLimits
from ae_search.client.conversation import ModelTalk
from ae_search.client.retrying import Timeouts
from ae_search.client.rpc_errors import LAST_VERSION, Asked
from ae_search.contract import DEFAULT_MODEL_NAME
from ae_search.errors import ConfigurationError

# What a copy of a client, or a pickle, makes anew.
_MADE_ANEW = ("line", "talk")


class ModelClient(ABC):
    """A client of one model on one server; see `PredictClient` for the arguments.

    Attributes:
        asked: Server and model, with the version or label that is pinned, if any.
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        access: Access | None = None,
        timeout_s: float = 30.0,
        total_timeout_s: float | None = None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        if version is not None and label is not None:
            raise ConfigurationError(
                f"Pin a version or a label, one of them. Received: version {version}, label {label!r}."
            )
        if version is not None and not 0 <= version <= LAST_VERSION:
            raise ConfigurationError(f"A version is a number from 0 to 2**63 - 1. Received: version {version}.")
        if not model:
            raise ConfigurationError("The model's name must not be empty; a server's own default is 'default'.")
        if not 0 < max_answer_bytes < 2**31:
            raise ValueError(f"max_answer_bytes must be from 1 to 2**31 - 1. Received: {max_answer_bytes}.")
        self.asked = Asked(target, model, version, label)
        self._timeouts = Timeouts(timeout_s, total_timeout_s)
        self._access, self._max_answer_bytes = access or Access(), max_answer_bytes
        self._connect()

    @abstractmethod
    def _connect(self) -> None:
        """Make ready for calls; nothing is sent yet."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the arguments, for a pickle or a deep copy: what is made of them opens a channel of its own."""
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._connect()

    @property
    def target(self) -> str:
        """The gRPC target."""
        return self.asked.target

    @property
    def model(self) -> str:
        """The name that the model is asked for by."""
        return self.asked.model

    @property
    def version(self) -> int | None:
        """The pinned version, None where none is."""
        return self.asked.version

    @property
    def timeout_s(self) -> float:
        """Seconds allowed for each request."""
        return self._timeouts.request_s

    @property
    def total_timeout_s(self) -> float | None:
        """Seconds allowed for a whole call, None for no limit."""
        return self._timeouts.call_s

    def at_version(self, version: int) -> Self:
        """Return a client of the same server, on the same channel, that asks for one version only.

        Raises:
            ModelNotServedError: This client is pinned to another version, or no server can have such a one.
        """
        pinned = object.__new__(type(self))
        vars(pinned).update(vars(self))
        pinned.asked = self.asked.at_version(version)
        return pinned


class EncoderClient(ModelClient):
    """A client of an encoder that ae-search exported; see `LatentClient` for the arguments.

    Attributes:
        talk: What is said to the server.
    """

    talk: ModelTalk

    def __init__(
        self,
        target: str,
        model: str = DEFAULT_MODEL_NAME,
        *,
        version: int | None = None,
        label: str | None = None,
        access: Access | None = None,
        timeout_s: float = 30.0,
        total_timeout_s: float | None = None,
        max_in_flight: int = 4,
        max_megapixels: float | None = None,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1. Received: {max_in_flight}.")
        self._max_in_flight, self._max_megapixels = max_in_flight, max_megapixels
        super().__init__(
            target,
            model,
            version=version,
            label=label,
            access=access,
            timeout_s=timeout_s,
            total_timeout_s=total_timeout_s,
        )

    def _connect(self) -> None:
        super()._connect()  # type: ignore[safe-super]  # the verbs' class is next to this one
        self.talk = ModelTalk(
            self.asked,
            max_in_flight=self._max_in_flight,
            max_megapixels=self._max_megapixels,
            patience_s=self._timeouts.longest_request_s,
        )

    @property
    def limits(self) -> ChunkLimits:
        """How many images a request carries; fewer once the server has said that it takes fewer."""
        return self.talk.limits

    def at_version(self, version: int) -> Self:
        """Return an encoder of the same server, on the same channel, that asks for one version only.

        Raises:
            ModelNotServedError: This client is pinned to another version, or no server can have such a one.
        """
        pinned = super().at_version(version)
        pinned.talk = self.talk.at_version(version)
        return pinned
