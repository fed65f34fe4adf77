"""The versions under one base path: which there are, which one is served, what became of the others."""

import logging
import threading
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import grpc

from ae_search.errors import AeSearchError, ConfigurationError, ExportError
from ae_search.model_server.servable import SAVED_MODEL, Servable

log = logging.getLogger(__name__)

MAX_VERSION = 2**63 - 1
FAILED_CODE: int = grpc.StatusCode.UNKNOWN.value[0]


class State(IntEnum):
    """`tensorflow.serving.ModelVersionStatus.State`, the states that occur here."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """What became of one version.

    Attributes:
        version: Version number.
        state: Where it is in its life.
        error_code: 0, or a gRPC status code where it failed.
        error: Empty, or why it failed, one sentence.
    """

    version: int
    state: State
    error_code: int = 0
    error: str = ""


def version_folders(base_path: Path) -> dict[int, Path]:
    """Return the version folders of a base path: those named by a whole number, leading zeros allowed.

    Raises:
        ConfigurationError: The base path is no folder that can be read.
    """
    found: dict[int, Path] = {}
    try:
        # The longest name first, so that of `7` and `007` the plain one is taken.
        for folder in sorted(base_path.iterdir(), key=lambda path: -len(path.name)):
            named = folder.name.isascii() and folder.name.isdigit()
            if named and int(folder.name) <= MAX_VERSION and folder.is_dir():
                found[int(folder.name)] = folder
    except OSError as error:
        raise ConfigurationError(f"The model base path {base_path} cannot be read: {error.strerror}.") from error
    return found


def require_version_folders(base_path: Path) -> dict[int, Path]:
    """Return the version folders of a base path, at least one.

    Raises:
        ConfigurationError: There is none.
    """
    found = version_folders(base_path)
    if not found and (base_path / SAVED_MODEL).is_file():
        raise ConfigurationError(
            f"{base_path} is a SavedModel and no model base path; expected the folder above its versions."
        )
    if not found:
        raise ConfigurationError(f"The model base path {base_path} has no version folder such as {base_path / '1'}.")
    return found


class ModelVersions:
    """Serve the newest version that loads, and follow what appears and disappears under the base path.

    While a version loads, the one before it answers. A version that fails to load is not tried again until its folder
    is gone. When the folder of the served version is removed, the next older one takes over; when all are, or the base
    path cannot be read, the version in memory keeps answering.
    """

    def __init__(self, base_path: Path, *, poll_interval_s: float = 1.0) -> None:
        self._base_path = base_path
        self._interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._live: Servable | None = None
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: set[int] = set()
        self._incomplete: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model-versions", daemon=True)

    def start(self) -> None:
        """Load the newest version that can be loaded, then watch the base path.

        Raises:
            ConfigurationError: The base path does not exist or has no version folder.
            ExportError: None of its versions can be loaded.
        """
        require_version_folders(self._base_path)
        self._poll()
        if self._live is None and self._incomplete:
            self._stopping.wait(self._interval_s)
            self._poll()
        if self._live is None:
            causes = [status.error for status in self.statuses() if status.error]
            raise ExportError(causes[0] if causes else f"No version in {self._base_path} can be loaded.")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; the version in memory keeps answering whoever holds it."""
        self._stopping.set()

    def servable(self, version: int | None = None) -> Servable | None:
        """Return the served version, or None when another one is asked for.

        Whoever holds the answer can run it to its end, also after a newer version took over.
        """
        live = self._live
        return live if live is not None and version in (None, live.version) else None

    def statuses(self) -> list[VersionStatus]:
        """Return what became of every version seen, newest first."""
        with self._lock:
            return sorted(self._statuses.values(), key=lambda status: -status.version)

    def _watch(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self._poll()
            except AeSearchError as error:
                log.warning("%s", error)
            except Exception:
                log.exception("watching %s failed; trying again", self._base_path)

    def _poll(self) -> None:
        """Bring what is served in line with the folders that are there now."""
        found = version_folders(self._base_path)
        self._failed &= found.keys()
        waiting = self._newly_incomplete(found)
        for version in sorted(found.keys() - self._failed - waiting, reverse=True):
            if self._live is not None and version == self._live.version:
                return
            if self._load(version, found[version]):
                return

    def _newly_incomplete(self, found: dict[int, Path]) -> set[int]:
        """Return the folders seen for the first time without their SavedModel: somebody may still be copying."""
        served = -1 if self._live is None else self._live.version
        incomplete = {
            version
            for version in found.keys() - self._failed
            if version > served and not (found[version] / SAVED_MODEL).is_file()
        }
        waiting, given_up = incomplete - self._incomplete, self._incomplete - found.keys()
        with self._lock:
            self._statuses.update({version: VersionStatus(version, State.START) for version in waiting})
            for version in given_up:
                self._statuses.pop(version, None)
        # Those that failed meanwhile have a status to keep.
        self._incomplete = incomplete - self._failed
        return waiting

    def _load(self, version: int, folder: Path) -> bool:
        self._note(VersionStatus(version, State.LOADING))
        try:
            servable = Servable.load(folder, version)
        except ExportError as error:
            self._failed.add(version)
            self._note(VersionStatus(version, State.END, FAILED_CODE, str(error)))
            log.error("%s", error)
            return False
        with self._lock:
            before, self._live = self._live, servable
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
            if before is not None:
                self._statuses[before.version] = VersionStatus(before.version, State.END)
        log.info("serving version %d%s", version, f" after {before.version}" if before else "")
        return True

    def _note(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status
