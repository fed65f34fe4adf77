"""The versions under one base path: which there are, which are served, what became of the others."""

import logging
import threading
import weakref
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import grpc

from ae_search.errors import AeSearchError, ConfigurationError, ExportError
from ae_search.model_server.failures import unforeseen
from ae_search.model_server.policy import VersionPolicy
from ae_search.model_server.servable import Servable
from ae_search.printable import printable
from ae_search.version_folders import SAVED_MODEL, require_version_folders, version_folders

log = logging.getLogger(__name__)

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


class ModelVersions:
    """Serve the versions that a policy wants, and follow what appears and disappears under the base path.

    A version is unloaded after those that take its place have been loaded. A version that fails to load is not tried
    again until its folder is gone; `latest:N` goes on to the next older one. When the folders of all served versions
    are removed, or the base path cannot be read, the versions in memory keep answering.
    """

    def __init__(
        self,
        base_path: Path,
        *,
        policy: VersionPolicy | None = None,
        poll_interval_s: float = 1.0,
        trust: bool = False,
    ) -> None:
        self._base_path, self._trust = base_path, trust
        self._policy = policy or VersionPolicy()
        self._interval_s = poll_interval_s
        # Re-entrant: a version may be let go of, and noted as ended, wherever memory is freed.
        self._lock = threading.RLock()
        # Replaced and never changed, so that requests read it without the lock. Newest first.
        self._live: dict[int, Servable] = {}
        self._statuses: dict[int, VersionStatus] = {}
        self._failed: set[int] = set()
        self._incomplete: set[int] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model-versions", daemon=True)

    def start(self) -> None:
        """Load the wanted versions that can be loaded, then watch the base path.

        Raises:
            ConfigurationError: The base path does not exist or has none of the wanted versions.
            ExportError: None of them can be loaded.
        """
        found = require_version_folders(self._base_path)
        if not self._policy.wanted(found):
            there = ", ".join(map(str, sorted(found)))
            raise ConfigurationError(f"{self._base_path} has none of {self._policy}; there: {there}.")
        for version in sorted(self._policy.specific - found.keys()):
            log.warning("%s has no version %d yet; it is served when it appears", self._base_path, version)
        self._poll()
        if not self._live and self._incomplete:
            self._stopping.wait(self._interval_s)
            self._poll()
        if not self._live:
            causes = [status.error for status in self.statuses() if status.error]
            raise ExportError(causes[0] if causes else f"No version in {self._base_path} can be loaded.")
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; the versions in memory keep answering whoever holds them."""
        self._stopping.set()

    def servable(self, version: int | None = None) -> Servable | None:
        """Return a served version, the newest when none is asked for, or None when it is not served.

        Whoever holds the answer can run it to its end, also after a newer version took over.
        """
        live = self._live
        return next(iter(live.values()), None) if version is None else live.get(version)

    def available(self) -> list[int]:
        """Return the served versions, newest first."""
        return list(self._live)

    def statuses(self) -> list[VersionStatus]:
        """Return what became of every version seen, newest first."""
        with self._lock:
            return sorted(self._statuses.values(), key=lambda status: -status.version)

    def _watch(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self._poll()
            except AeSearchError as error:
                log.warning("%s", printable(str(error)))
            except Exception as error:
                unforeseen(log, f"watching {self._base_path} failed; trying again", error)

    def _poll(self) -> None:
        """Bring what is served in line with the folders that are there now."""
        found = version_folders(self._base_path)
        self._failed &= found.keys()
        usable = found.keys() - self._newly_incomplete(found)
        while missing := self._policy.wanted(usable - self._failed) - self._live.keys():
            for version in missing:
                self._note(VersionStatus(version, State.START))
            version = max(missing)
            # One that fails, of several that `latest:N` wants, makes room for the next older one.
            self._load(version, found[version])
        wanted = self._policy.wanted(usable - self._failed)
        if wanted:
            for version in self._live.keys() - wanted:
                self._unload(version)

    def _newly_incomplete(self, found: dict[int, Path]) -> set[int]:
        """Return the folders seen for the first time without their SavedModel: somebody may still be copying."""
        incomplete = {
            version
            for version in found.keys() - self._failed - self._live.keys()
            if version in self._policy.wanted({version, *self._live}) and not (found[version] / SAVED_MODEL).is_file()
        }
        waiting, given_up = incomplete - self._incomplete, self._incomplete - found.keys()
        with self._lock:
            self._statuses.update({version: VersionStatus(version, State.START) for version in waiting})
            for version in given_up:
                self._statuses.pop(version, None)
        self._incomplete = incomplete
        return waiting

    def _load(self, version: int, folder: Path) -> None:
        self._note(VersionStatus(version, State.LOADING))
        try:
            servable = Servable.load(folder, version, trust=self._trust)
        except ExportError as error:
            self._failed.add(version)
            # Those that failed have a status to keep.
            self._incomplete.discard(version)
            self._note(VersionStatus(version, State.END, FAILED_CODE, str(error)))
            log.error("%s", printable(str(error)))
            return
        with self._lock:
            live = {**self._live, version: servable}
            self._live = {number: live[number] for number in sorted(live, reverse=True)}
            self._statuses[version] = VersionStatus(version, State.AVAILABLE)
        log.info("serving version %d", version)

    def _unload(self, version: int) -> None:
        """Let go of a version, which ends when the last request that runs it has ended."""
        with self._lock:
            servable = self._live[version]
            self._live = {number: value for number, value in self._live.items() if number != version}
            unloading = self._statuses[version] = VersionStatus(version, State.UNLOADING)
        weakref.finalize(servable, self._end, unloading).atexit = False
        log.info("unloading version %d", version)

    def _end(self, unloading: VersionStatus) -> None:
        with self._lock:
            # Its number may have come back meanwhile.
            if self._statuses.get(unloading.version) is unloading:
                self._statuses[unloading.version] = VersionStatus(unloading.version, State.END)

    def _note(self, status: VersionStatus) -> None:
        with self._lock:
            self._statuses[status.version] = status
