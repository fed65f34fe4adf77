"""What the blocking and the asynchronous client have in common: which model they ask, where, and how patiently."""

import copy
from abc import ABC, abstractmethod
from typing import Self

from ae_search.client.access import Access
from ae_search.client.chunks import Limits
from ae_search.client.conversation import ModelTalk
from ae_search.client.retrying import check_timeouts
from ae_search.client.rpc_errors import Asked
from ae_search.contract import DEFAULT_MODEL_NAME
from ae_search.errors import ConfigurationError


class ModelClient(ABC):
    """A client of one model on one server; see `LatentClient` for the arguments.

    Attributes:
        talk: What is said to the server.
        timeout_s: Seconds allowed for each request.
        total_timeout_s: Seconds allowed for a whole call, None for no limit.
    """

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
        if version is not None and label is not None:
            raise ConfigurationError(
                f"Pin a version or a label, one of them. Received: version {version}, label {label!r}."
            )
        if version is not None and not 0 <= version < 2**63:
            raise ConfigurationError(f"A version is a number from 0 to 2**63 - 1. Received: version {version}.")
        if not model:
            raise ConfigurationError("The model's name must not be empty; a server's own default is 'default'.")
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1. Received: {max_in_flight}.")
        check_timeouts(timeout_s, total_timeout_s)
        asked = Asked(target, model, version, label)
        self.timeout_s, self.total_timeout_s = timeout_s, total_timeout_s
        self.talk = ModelTalk(
            asked, max_in_flight=max_in_flight, max_megapixels=max_megapixels, patience_s=self._request_s
        )
        self._access = access or Access()
        self._connect(target)

    @abstractmethod
    def _connect(self, target: str) -> None:
        """Make ready for calls; nothing is sent yet."""

    @property
    def _request_s(self) -> float:
        """The longest that a request can take, in s."""
        return self.timeout_s if self.total_timeout_s is None else min(self.timeout_s, self.total_timeout_s)

    @property
    def target(self) -> str:
        """The gRPC target."""
        return self.talk.asked.target

    @property
    def model(self) -> str:
        """The name that the model is asked for by."""
        return self.talk.asked.model

    @property
    def version(self) -> int | None:
        """The pinned version, None where none is."""
        return self.talk.asked.version

    @property
    def limits(self) -> Limits:
        """How many images a request carries; fewer once the server has said that it takes fewer."""
        return self.talk.limits

    def at_version(self, version: int) -> Self:
        """Return a client of the same server, on the same channel, that asks for one version only.

        Raises:
            ModelNotServedError: This client is pinned to another version.
        """
        pinned = copy.copy(self)
        pinned.talk = self.talk.at_version(version)
        return pinned
