"""The one model of a server, found by what a request says about it."""

from collections.abc import Mapping
from typing import Any

import grpc

from ae_search.contract import DEFAULT_MODEL_NAME
from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Servable
from ae_search.model_server.versions import ModelVersions


class ServedModel:
    """The one model of this server, found by the `ModelSpec` of a request.

    Attributes:
        name: Its name; it also answers to "default", TensorFlow Serving's own default model name.
        versions: Its versions.
    """

    def __init__(self, name: str, versions: ModelVersions, labels: Mapping[str, int]) -> None:
        self.name = name
        self.versions = versions
        self._labels = labels

    def check_name(self, spec: Any, not_found: str) -> None:
        """Refuse a request for another model.

        Args:
            spec: A `tensorflow.serving.ModelSpec`.
            not_found: What to say where the name is unknown.

        Raises:
            RequestRefused: No name, or an unknown one.
        """
        if not spec.name:
            raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if spec.name not in (self.name, DEFAULT_MODEL_NAME):
            raise RequestRefused(grpc.StatusCode.NOT_FOUND, not_found)

    def servable(self, spec: Any) -> Servable:
        """Return the version that a `ModelSpec` asks for.

        Raises:
            RequestRefused: The model, the version or the label is not served.
        """
        version = self.asked_version(spec)
        servable = self.versions.servable(version)
        if servable is None or spec.name != self.name:
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            not_found = f"Servable not found for request: {wanted}"
            self.check_name(spec, not_found)
            if servable is None:
                raise RequestRefused(grpc.StatusCode.NOT_FOUND, not_found)
        return servable

    def asked_version(self, spec: Any) -> int | None:
        """Return the version that a `ModelSpec` asks for by number or label, None for the newest.

        Raises:
            RequestRefused: There is no such label.
        """
        if spec.HasField("version"):
            return int(spec.version.value)
        if not spec.version_label:
            return None
        # Another model's label is left to the check of its name.
        if spec.version_label not in self._labels and spec.name in (self.name, DEFAULT_MODEL_NAME):
            text = f"Unrecognized servable version label: {spec.version_label}"
            raise RequestRefused(grpc.StatusCode.INVALID_ARGUMENT, text)
        return self._labels.get(spec.version_label)
