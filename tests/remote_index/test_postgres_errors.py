"""What the server and its driver refuse comes as an error of ours, with the server's words and without a secret."""

import psycopg
import pytest
from index_items import CARD, clustered
from postgres_server import shared_server

from ae_search import errors
from ae_search.errors import (
    AccessDeniedError,
    AeSearchError,
    ConfigurationError,
    IndexDamagedError,
    NotSupportedError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from ae_search.open_index import build_index, open_index
from ae_search.remote_index.postgres.failures import failure

PASSWORD = "hush-hush-7"

ALL = sorted(
    (one for one in vars(psycopg.errors).values() if isinstance(one, type) and issubclass(one, psycopg.Error)),
    key=lambda one: one.__name__,
)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_of_the_driver_has_one_of_ours(kind):
    error = failure(kind("the server's words\nand more"), "postgresql://h/db?index=a")
    assert type(error).__name__ in errors.__all__
    assert "the server's words and more" in str(error) and "postgresql://h/db?index=a" in str(error)


@pytest.fixture(scope="module")
def place():
    server = shared_server()
    url = server.database("errors") + "&index=a"
    with build_index(url, CARD) as builder:
        builder.add(clustered(30), [str(i) for i in range(30)])
    return url


@pytest.fixture(scope="module")
def roles(place):
    """Roles that may do less, and how each is let in."""
    server = shared_server()
    for statement in (
        f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
        "GRANT USAGE ON SCHEMA ae_search TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA ae_search TO reader",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA ae_search GRANT SELECT ON TABLES TO reader",
        "CREATE ROLE stranger LOGIN",
    ):
        server.execute(statement, database="errors")
    return server


def test_a_role_that_can_only_read(place, roles):
    url = roles.url("errors", user="reader") + "&index=a"
    with open_index(url) as index:
        assert len(index.search(clustered(1), 3)[0]) == 3
        assert [check.fault for check in index.verify() if check.fault] == []
        for change in (
            lambda: index.add(clustered(1), ["new"]),
            lambda: index.remove(["1"]),
            lambda: index.calibrate("null", {}),
            lambda: index.tune(),
        ):
            with pytest.raises(AccessDeniedError, match="permission denied"):
                change()
        with open_index(place) as writer:
            writer.remove(["1"])
            writer.compact()
        assert "1" not in index and len(index) == 29


def test_a_role_that_may_nothing(place, roles):
    with pytest.raises(AccessDeniedError, match="permission denied"):
        open_index(roles.url("errors", user="stranger") + "&index=a")
    with pytest.raises(AccessDeniedError, match="permission denied"):
        build_index(roles.url("errors", user="stranger") + "&index=b", CARD)


def test_who_must_create_the_extension(roles):
    roles.execute("CREATE DATABASE theirs OWNER stranger")
    with pytest.raises(ConfigurationError, match="administrator must run CREATE EXTENSION vector"):
        build_index(roles.url("theirs", user="stranger") + "&index=a", CARD)
    roles.execute("CREATE EXTENSION vector", database="theirs")
    url = roles.url("theirs", user="stranger") + "&index=a"
    with build_index(url, CARD) as builder:
        builder.add(clustered(5), list("abcde"))
    with open_index(url) as index:
        assert len(index) == 5


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("postgresql://postgres:{p}@127.0.0.1:1/x?index=a", ServerUnavailableError, "refused"),
        ("postgresql://postgres:{p}@/absent?host={f}&index=a", ConfigurationError, "does not exist"),
        ("postgresql://nobody:{p}@/postgres?host={f}&index=a", ConfigurationError, "does not exist"),
        ("postgresql://postgres:{p}@/postgres?host={f}&index=a", ConfigurationError, "no index"),
        ("postgresql://postgres:{p}@/postgres?host=/absent&index=a", ServerUnavailableError, "No such file"),
        ("postgresql://postgres:{p}@/errors?host={f}&index=other", ConfigurationError, "no index"),
        ("postgresql://postgres:{p}@/errors?host={f}&sslmode=bad&index=a", AeSearchError, "sslmode"),
    ],
)
def test_servers_that_cannot_be_used(place, url, error, text, caplog):
    with pytest.raises(error, match=text) as told:
        open_index(url.format(p=PASSWORD, f=shared_server().folder))
    shown = repr(told.value) + str(told.value.__cause__) + caplog.text
    assert PASSWORD not in shown


def test_a_database_in_another_encoding(roles):
    roles.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ConfigurationError, match="UTF8"):
        build_index(roles.url("latin") + "&index=a", CARD)


def test_a_statement_that_takes_too_long(place):
    with open_index(place.replace("index=a", "index=a&timeout_s=0.001")) as index:
        with pytest.raises(ServerTimeoutError, match="timeout_s"):
            index._connections.read(lambda session: session.execute("SELECT pg_sleep(1)"))


@pytest.mark.parametrize(
    "manifest",
    [
        "'{}'",
        "'[1]'",
        "NULL",
        *(f"(manifest::jsonb || '{{{one}}}')::json" for one in ('"effort": -1', '"metric": "x"')),
    ],
)
def test_a_damaged_manifest(roles, manifest):
    url = roles.url("errors") + "&index=damaged"
    with build_index(url, CARD) as builder:
        builder.add(clustered(5), list("abcde"))
    try:
        damage = f"UPDATE ae_search.generations SET manifest = {manifest} WHERE number = %s"
        roles.execute(damage, (generation_of(roles, "damaged"),), database="errors")
        with pytest.raises(IndexDamagedError, match="manifest"):
            open_index(url)
    finally:
        roles.execute("DELETE FROM ae_search.indexes WHERE name = 'damaged'", database="errors")


def test_a_newer_format(roles):
    url = roles.url("errors") + "&index=newer"
    with build_index(url, CARD) as builder:
        builder.add(clustered(5), list("abcde"))
    roles.execute(
        "UPDATE ae_search.generations SET manifest = '{\"format\": 2}' WHERE number = %s",
        (generation_of(roles, "newer"),),
        database="errors",
    )
    with pytest.raises(ConfigurationError, match="upgrade"):
        open_index(url)


def generation_of(server, name):
    ((number,),) = server.execute(
        "SELECT generation FROM ae_search.indexes WHERE name = %s", (name,), database="errors"
    )
    return number


def test_faults_that_verify_finds(roles):
    url = roles.url("errors") + "&index=faults"
    with build_index(url, CARD) as builder:
        builder.add(clustered(40), [str(i) for i in range(40)])
    number = generation_of(roles, "faults")
    table = f"ae_search.generation_{number}"
    for name, column, wrong, right in (
        ("ae_search.generations", "items", "41", "40"),
        (table, "key", "'x'", "'3'"),
        (table, "metadata", "'[1]'", "NULL"),
        (table, "at", "1", "0"),
    ):
        row = f"number = {number}" if column == "items" else "id = 3"
        with open_index(url) as index:
            assert [check.fault for check in index.verify() if check.fault] == []
            roles.execute(f"UPDATE {name} SET {column} = {wrong} WHERE {row}", database="errors")
            assert any(check.fault for check in index.verify()), column
            roles.execute(f"UPDATE {name} SET {column} = {right} WHERE {row}", database="errors")


def test_a_replica_takes_no_changes(roles):
    """What a hot standby says, a session that may not write says too."""
    url = roles.url("errors", options="-c%20default_transaction_read_only%3Don") + "&index=a"
    with open_index(url) as index:
        assert len(index.search(clustered(1), 3)[0]) == 3
        with pytest.raises(NotSupportedError, match="takes no changes"):
            index.add(clustered(1), ["new"])
