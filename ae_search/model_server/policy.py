"""Which versions are served, and the labels that name them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from ae_search.errors import ConfigurationError
from ae_search.version_folders import version_number

LATEST = "latest"
ALL = "all"
SPECIFIC = "specific"


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions under the base path are served, as TensorFlow Serving's `model_version_policy`.

    Attributes:
        latest: Serve this many of the newest versions that load; None with another policy.
        specific: Serve these versions; empty with another policy. With neither, all are served.

    Example:
        VersionPolicy.parse("latest:2")
    """

    latest: int | None = 1
    specific: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `latest`, `latest:N`, `all` or `specific:V[,V...]`.

        Raises:
            ConfigurationError: It is not of these forms.
        """
        kind, _, rest = text.partition(":")
        if text == ALL:
            return cls(latest=None)
        if kind == LATEST and (text == LATEST or version_number(rest)):
            return cls(latest=int(rest or 1))
        versions = [version_number(one) for one in rest.split(",")]
        if kind == SPECIFIC and None not in versions:
            return cls(latest=None, specific=frozenset(one for one in versions if one is not None))
        raise ConfigurationError(
            f"A version policy is latest:N, all or specific:V,V, for example latest:2. Received: {text!r}."
        )

    def wanted(self, versions: Collection[int]) -> set[int]:
        """Return which of these versions are to be served."""
        if self.specific:
            return set(self.specific.intersection(versions))
        return set(sorted(versions, reverse=True)[: self.latest])

    def __str__(self) -> str:
        if self.specific:
            return f"{SPECIFIC}:{','.join(map(str, sorted(self.specific)))}"
        return ALL if self.latest is None else f"{LATEST}:{self.latest}"


@dataclass(frozen=True)
class Labels:
    """Names for versions, as TensorFlow Serving's `version_labels`.

    Attributes:
        versions: Version by label.
        allow_unavailable: A label may name a version that is not loaded when the server starts.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    allow_unavailable: bool = False

    @classmethod
    def parse(cls, texts: Iterable[str], *, allow_unavailable: bool = False) -> Self:
        """Read `NAME=VERSION`, one for each label.

        Raises:
            ConfigurationError: It is not of this form, or a label is given twice.
        """
        versions: dict[str, int] = {}
        for text in texts:
            label, _, number = text.rpartition("=")
            version = version_number(number)
            if not label or version is None:
                raise ConfigurationError(f"A label is NAME=VERSION, for example stable=1. Received: {text!r}.")
            if label in versions:
                raise ConfigurationError(f"The label {label!r} is given twice; it can name one version.")
            versions[label] = version
        return cls(versions, allow_unavailable)

    def check(self, available: Collection[int]) -> None:
        """Refuse labels on versions that are not loaded, as TensorFlow Serving does when it starts.

        Raises:
            ConfigurationError: There is such a label, and `allow_unavailable` is not set.
        """
        for label, version in self.versions.items():
            if version not in available and not self.allow_unavailable:
                raise ConfigurationError(
                    f"The label {label!r} names version {version}, which is not available; available: "
                    f"{', '.join(map(str, sorted(available)))}. Choose a --version-policy that loads it, or allow it "
                    "with --allow-version-labels-for-unavailable-models."
                )
