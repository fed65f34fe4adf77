"""Where an index on PostgreSQL is: a URL as libpq reads it, told everywhere without its secrets."""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from ae_search.errors import ConfigurationError
from ae_search.remote_index.urls import decoded, is_loopback, timeout_of

_INDEX_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
# Parameters of ours, which libpq does not know.
_OWN = ("index", "timeout_s")
_SECRET = frozenset({"password", "sslpassword", "sslkeylogfile", "scram_client_key", "scram_server_key"})
_SECRET_PARTS = ("password", "secret")
_EXAMPLE = "postgresql://user@host/database?index=photos"

# A name without its secrets must lead back to the same place within this process: copies of an index and commands that
# open it again use that name. Nothing of this is written anywhere.
_secrets: dict[str, dict[str, str]] = {}


@dataclass(frozen=True)
class PostgresPlace:
    """One index in one database.

    Attributes:
        name: The URL without secrets, for messages, and to open the same place again in this process.
        index: Name of the index.
        timeout_s: How long one statement of a search or a look-up may take, in s.
        parameters: What libpq connects with, secrets among them.
    """

    name: str
    index: str
    timeout_s: float
    parameters: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ConfigurationError: It is malformed; the text repeats no secret.
        """
        bare, given, own = _split(url)
        name = _named(bare, own)
        if given:
            _secrets[name] = given
        index = own.get("index", "")
        if not _INDEX_NAME.fullmatch(index):
            raise ConfigurationError(
                f"An index on PostgreSQL is named by index=NAME, of 1 to 63 letters, digits, dots, dashes and _, as in "
                f"{_EXAMPLE}. Received: {name}."
            )
        return cls(name, index, timeout_of(own), _parameters(bare) | _secrets.get(name, {}))

    @property
    def secrets(self) -> dict[str, str]:
        """Return what the name leaves out, for a process that is to open the same place; see `know`."""
        return dict(_secrets.get(self.name, {}))

    @property
    def has_several_servers(self) -> bool:
        """Whether reading and writing may be done by different servers."""
        hosts = f"{self.parameters.get('host', '')}{self.parameters.get('hostaddr', '')}"
        return "," in hosts or "target_session_attrs" in self.parameters


def know(name: str, secrets: dict[str, str]) -> None:
    """Let the name of a place lead to it in this process as well; it and its secrets come from another one."""
    _secrets[name] = secrets


def _split(url: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return a URL without secrets and without what is ours, its secrets, and what is ours."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    user, at, hosts = authority.rpartition("@")
    user, colon, password = user.partition(":")
    secrets = {"password": password} if colon and password else {}
    path, _, query = rest[len(authority) :].partition("?")
    own: dict[str, str] = {}
    kept = []
    for pair in query.split("&") if query else []:
        key, _, value = pair.partition("=")
        if key in _SECRET or any(part in key.lower() for part in _SECRET_PARTS):
            secrets[key] = value
        elif key in _OWN:
            if key in own:
                raise ConfigurationError(f"{key}= may stand once in the URL of an index, as in {_EXAMPLE}.")
            own[key] = decoded(value, _EXAMPLE)
        else:
            kept.append(pair)
    bare = f"{scheme}://{user}{at}{hosts}{path}" + (f"?{'&'.join(kept)}" if kept else "")
    return bare, {key: decoded(value, _EXAMPLE) for key, value in secrets.items()}, own


def _named(bare: str, own: dict[str, str]) -> str:
    pairs = "&".join(f"{key}={value}" for key, value in own.items())
    return bare + (("&" if "?" in bare else "?") + pairs if pairs else "")


def _parameters(bare: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(bare)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"{bare} is no URL of PostgreSQL: {str(error).strip()}. An example: {_EXAMPLE}."
        ) from None
    for port in str(given.get("port", "")).split(","):
        if not re.fullmatch(r"\d{0,5}", port, re.ASCII):
            raise ConfigurationError(f"{bare}: a port is a number. Received: {port!r}.")
    parameters: dict[str, Any] = {"application_name": "ae-search", "connect_timeout": "10", **given}
    if not _is_local(parameters) and "sslmode" not in parameters:
        parameters["sslmode"] = "verify-full"
        if "sslrootcert" not in parameters and not (Path.home() / ".postgresql" / "root.crt").is_file():
            parameters["sslrootcert"] = os.environ.get("PGSSLROOTCERT", "system")
    if _tls_would_abort():
        _avoid_tls(bare, parameters)
    return parameters


def _tls_would_abort() -> bool:
    """Tell whether TensorFlow was imported before psycopg: libpq then calls TensorFlow's TLS library, not its own."""
    imported = list(sys.modules)  # in the order in which they came
    if psycopg.pq.__impl__ != "binary" or "tensorflow" not in imported:
        return False
    return imported.index("tensorflow") < imported.index("psycopg")


def _avoid_tls(bare: str, parameters: dict[str, Any]) -> None:
    """Turn TLS off where the server is on this machine and TLS is a mere preference.

    Raises:
        ConfigurationError: It is needed, or asked for.
    """
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE") or "prefer"
    if mode in ("allow", "prefer") and _is_local(parameters):
        parameters["sslmode"] = "disable"
    elif mode != "disable":
        raise ConfigurationError(
            f"{bare} is to be spoken to by TLS (sslmode={mode}), which would abort this process: it imported "
            "TensorFlow before psycopg, and both bring a TLS library. Import psycopg before TensorFlow."
        )


def _is_local(parameters: dict[str, Any]) -> bool:
    """Tell whether all servers are of this machine: by a Unix socket, or by a loopback address."""
    if "service" in parameters or "PGSERVICE" in os.environ:
        return False
    hosts = parameters.get("hostaddr") or os.environ.get("PGHOSTADDR")
    hosts = hosts or parameters.get("host") or os.environ.get("PGHOST") or ""
    return all(map(is_loopback, str(hosts).split(",")))
