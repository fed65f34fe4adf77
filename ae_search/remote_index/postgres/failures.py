"""What PostgreSQL and its driver refuse, as errors of ours: one map, with the server's own words."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ConfigurationError,
    IndexBusyError,
    IndexDamagedError,
    NotSupportedError,
    ServerAnswerError,
    ServerTimeoutError,
    ServerUnavailableError,
)

# By SQLSTATE, the longest beginning counts: https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE: dict[str, tuple[type[AeSearchError], str]] = {
    "08": (ServerUnavailableError, "the connection was lost; try again"),
    "0A": (ConfigurationError, "the server cannot do that; compare its version and pgvector's with the documentation"),
    "22": (ServerAnswerError, "the server refused a value"),
    "23": (ServerAnswerError, "the server found a contradiction"),
    "25006": (NotSupportedError, "this server is a replica, which takes no changes; name the primary"),
    "25P03": (ServerUnavailableError, "the server ended the session as idle; try again"),
    "28": (AccessDeniedError, "check user and password (PGPASSWORD, or ~/.pgpass)"),
    "3D": (ConfigurationError, "there is no such database; create it first"),
    "3F": (ConfigurationError, "there is no index; build one with `ae-search index build`"),
    "40": (IndexBusyError, "another change was in the way; try again"),
    "42501": (AccessDeniedError, "the role lacks a right; its owner or an administrator must GRANT it"),
    "42P01": (ConfigurationError, "there is no index; build one with `ae-search index build`"),
    "42704": (ConfigurationError, "the extension vector is missing; an administrator must run CREATE EXTENSION vector"),
    "42883": (ConfigurationError, "pgvector is too old; 0.8 or newer is needed"),
    "53100": (ConfigurationError, "the server's disk, or its shared memory, is full"),
    "53": (ServerUnavailableError, "the server is out of resources; try later"),
    "54": (ConfigurationError, "a limit of the server is exceeded"),
    "55P03": (IndexBusyError, "another session holds a lock; try again"),
    "55": (IndexBusyError, "another session is in the way; try again"),
    "57014": (ServerTimeoutError, "the statement took too long; raise timeout_s= in the URL"),
    "57": (ServerUnavailableError, "the server stops or starts; try again"),
    "58P01": (ConfigurationError, "pgvector is not installed on the server; see its administrator"),
    "58": (ServerUnavailableError, "the server's system failed"),
    "XX001": (IndexDamagedError, "restore the database from its backup, or build the index anew"),
    "XX002": (IndexDamagedError, "REINDEX, or build the index anew"),
}
# What libpq says where no session came about, which has no SQLSTATE.
_BY_TEXT: tuple[tuple[str, type[AeSearchError], str], ...] = (
    ("password authentication failed", *_BY_STATE["28"]),
    ("no password supplied", *_BY_STATE["28"]),
    ("no pg_hba.conf entry", *_BY_STATE["28"]),
    ("does not exist", *_BY_STATE["3D"]),
    ("does not support SSL", ConfigurationError, "turn TLS on there; sslmode=disable in the URL goes without"),
    ("certificate", ConfigurationError, "name the authority by sslrootcert=FILE, and the host as in its certificate"),
    ("root certificate", ConfigurationError, "name the authority by sslrootcert=FILE"),
    ("session is read-only", NotSupportedError, "no server among the hosts takes changes now"),
    ("is in hot standby", NotSupportedError, "no server among the hosts takes changes now"),
    ("timeout expired", ServerTimeoutError, "the server does not answer"),
)


def failure(error: psycopg.Error, place: str) -> AeSearchError:
    """Return the error to raise for one of psycopg."""
    kind, advice = _kind(error)
    # libpq adds a hint behind a tab; ours says what to do.
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    cause = error.diag.message_primary or " ".join(lines)
    return kind(f"{place}: {' '.join(cause.split())}; {advice}.")


@contextmanager
def mapped(place: str) -> Iterator[None]:
    """Raise what psycopg raises as an error of ours."""
    try:
        yield
    except psycopg.Error as error:
        raise failure(error, place) from error


def _kind(error: psycopg.Error) -> tuple[type[AeSearchError], str]:
    state: str = error.sqlstate or ""
    for length in (5, 2):
        if state and (found := _BY_STATE.get(state[:length])):
            return found
    text = str(error)
    for part, kind, advice in _BY_TEXT:
        if not state and part in text:
            return kind, advice
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ServerUnavailableError, "the server cannot be reached now; try again"
    return ServerAnswerError, "that was not expected of this server"
