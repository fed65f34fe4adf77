"""Where an index on Milvus is: a URL, told everywhere without its secrets."""

import os
import re
from dataclasses import dataclass, field
from typing import Literal, Self, get_args

from ae_search.errors import ConfigurationError
from ae_search.remote_index.urls import decoded, is_loopback, timeout_of

Consistency = Literal["strong", "session", "bounded"]
CONSISTENCIES: tuple[Consistency, ...] = get_args(Consistency)
# "USER:PASSWORD", or an API key; for those who leave it out of the URL.
TOKEN_VARIABLE = "AE_SEARCH_MILVUS_TOKEN"

_DEFAULT_PORT = 19530
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)
# Those of collections that belong to an index.
_OF_OURS = re.compile(r".*_generation_[0-9]+|ae_search_writers")
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_EXAMPLE = "milvus://user@host:19530/photos"
_PARAMETERS = ("consistency", "timeout_s", "database", "tls", "ca")

# A name without its secrets must lead back to the same place within this process: copies of an index and commands that
# open it again use that name. Nothing of this is written anywhere.
_secrets: dict[str, str] = {}


@dataclass(frozen=True)
class MilvusPlace:
    """One index in one Milvus.

    Attributes:
        name: The URL without secrets, for messages, and to open the same place again in this process.
        index: Name of the index, which is an alias of its live generation there.
        uri: What the client connects to.
        database: Database of Milvus that the index is in, "" for the default one.
        consistency: How far a read waits for changes, unless a call says otherwise.
        timeout_s: How long one call may take, in s.
        ca: File with the certificates of the authority that vouches for the server; "" for those of the system.
        token: "USER:PASSWORD" or an API key, "" where there is none.
    """

    name: str
    index: str
    uri: str
    database: str
    consistency: Consistency
    timeout_s: float
    ca: str
    token: str = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ConfigurationError: It is malformed; the text repeats no secret.
        """
        authority, _, rest = url.partition("://")[2].partition("/")
        user, at, address = authority.rpartition("@")
        user, _, password = user.partition(":")
        index, mark, query = rest.partition("?")
        name = f"milvus://{user}{at}{address}/{index}{mark}{query}"
        if password:
            _secrets[name] = decoded(password, _EXAMPLE)
        # Before anything of the query is repeated: it might hold a password that was meant for elsewhere.
        own = _parameters(query)
        host, port = _address(address)
        if not _NAME.fullmatch(index) or _OF_OURS.fullmatch(index):
            raise ConfigurationError(
                "An index on Milvus is named by a letter and up to 62 letters, digits and _, as in "
                f"{_EXAMPLE}; it does not end with _generation_1, nor is it ae_search_writers. "
                f"Received: {index!r:.80}."
            )
        tls = _tls(own, host)
        return cls(
            name,
            index,
            f"{'https' if tls else 'http'}://{host}:{port}",
            own.get("database", ""),
            _consistency(own),
            timeout_of(own),
            own.get("ca", ""),
            _token(decoded(user, _EXAMPLE), _secrets.get(name, "")),
        )

    @property
    def secrets(self) -> dict[str, str]:
        """Return what the name leaves out, for a process that is to open the same place; see `know`."""
        return {"password": _secrets[self.name]} if self.name in _secrets else {}


def know(name: str, secrets: dict[str, str]) -> None:
    """Let the name of a place lead to it in this process as well; it and its secrets come from another one."""
    _secrets[name] = secrets["password"]


def _parameters(query: str) -> dict[str, str]:
    own: dict[str, str] = {}
    for pair in query.split("&") if query else []:
        key, _, value = pair.partition("=")
        if key not in _PARAMETERS or key in own:
            raise ConfigurationError(
                f"The URL of an index on Milvus may have {', '.join(_PARAMETERS)}, each once, and a password only as "
                f"in milvus://user:password@host. Received: {len(pair)} letters of something else."
            )
        own[key] = decoded(value, _EXAMPLE)
    return own


def _address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(_DEFAULT_PORT)
    if not _HOST.fullmatch(host):
        raise ConfigurationError(f"The URL of an index on Milvus names a host, as in {_EXAMPLE}.")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 0 < int(port) < 65536:
        raise ConfigurationError(f"A port is a number from 1 to 65535, as in {_EXAMPLE}.")
    return host, int(port)


def _consistency(own: dict[str, str]) -> Consistency:
    text = own.get("consistency", "session")
    for known in CONSISTENCIES:
        if text == known:
            return known
    raise ConfigurationError(f"consistency= takes {', '.join(CONSISTENCIES)}. Received: {text!r:.80}.")


def _tls(own: dict[str, str], host: str) -> bool:
    """Tell whether to speak TLS: unless the server is on this machine, or the URL says so."""
    text = own.get("tls", "off" if is_loopback(host.strip("[]")) else "on")
    if text not in ("on", "off"):
        raise ConfigurationError(f"tls= takes on or off. Received: {text!r:.80}.")
    return text == "on"


def _token(user: str, password: str) -> str:
    """Return what the client shows: of the URL where there is a password in it, else of the environment."""
    if password:
        return f"{user}:{password}"
    given = os.environ.get(TOKEN_VARIABLE, "")
    if user and given and ":" not in given:
        return f"{user}:{given}"
    return given
