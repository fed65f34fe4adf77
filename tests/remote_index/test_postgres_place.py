"""A place on PostgreSQL is told without its secrets, and speaks TLS unless it is on this machine."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from ae_search.errors import AeSearchError, ConfigurationError
from ae_search.open_index import SharedPlace, build_index, open_index, place_name, verify_index
from ae_search.remote_index.postgres import PostgresPlace

SECRET = "s3cr%40t"
PLAIN = "s3cr@t"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"postgresql://me:{SECRET}@h/db?index=a", "postgresql://me@h/db?index=a"),
        (f"postgres://me:{SECRET}@h1:1,h2:2/db?index=a", "postgres://me@h1:1,h2:2/db?index=a"),
        (f"postgresql://me@h/db?password={SECRET}&index=a", "postgresql://me@h/db?index=a"),
        (f"postgresql://me@h/db?index=a&sslpassword={SECRET}&sslmode=require", "postgresql://me@h/db?sslmode=require&index=a"),
        (f"postgresql://:{SECRET}@h/db?index=a", "postgresql://@h/db?index=a"),
        (f"postgresql://me:{SECRET}@[::1]:5/db?index=a&timeout_s=3", "postgresql://me@[::1]:5/db?index=a&timeout_s=3"),
        (f"postgresql://me:{SECRET}@/db?host=/run/pg&index=a", "postgresql://me@/db?host=/run/pg&index=a"),
        (f"postgresql://me:{SECRET}@h?index=a", "postgresql://me@h?index=a"),
        (f"postgresql://m%40e:{SECRET}@h/db?index=a", "postgresql://m%40e@h/db?index=a"),
    ],
)  # fmt: skip
def test_its_name_has_no_secret_and_leads_back(url, name):
    place = PostgresPlace.parse(url)
    assert place.name == place_name(url) == name
    secrets = {place.parameters.get(key) for key in ("password", "sslpassword")}
    assert PLAIN in secrets
    assert not any(text in shown for text in (SECRET, PLAIN) for shown in (repr(place), str(place), place.name))
    # Within this process.
    assert PostgresPlace.parse(name) == place
    assert "index" not in place.parameters and "timeout_s" not in place.parameters


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@h/db",
        f"postgresql://me:{SECRET}@h/db?index=",
        f"postgresql://me:{SECRET}@h/db?index=a b",
        f"postgresql://me:{SECRET}@h/db?index=a/b",
        f"postgresql://me:{SECRET}@h/db?index={'a' * 64}",
        f"postgresql://me:{SECRET}@h/db?index=a&index=b",
        f"postgresql://me:{SECRET}@h/db?index=a&timeout_s=0",
        f"postgresql://me:{SECRET}@h/db?index=a&timeout_s=nan",
        f"postgresql://me:{SECRET}@h/db?index=a&timeout_s=-1",
        f"postgresql://me:{SECRET}@h/db?index=a&nonsense=1",
        f"postgresql://me:{SECRET}@h:port/db?index=a",
        f"postgresql://me:{SECRET}@[::1/db?index=a",
        f"postgresql://me:{SECRET}%zz@h/db?index=a",
        f"postgresql://me:{SECRET}@h/d%00b?index=a",
        f"postgresql://me:{SECRET}@h/db?index=%",
        f"postgresql:/me:{SECRET}@h/db?index=a",
        f"mysql://me:{SECRET}@h/db?index=a",
    ],
)
@pytest.mark.parametrize("use", [open_index, verify_index, place_name, lambda url: build_index(url, None)])
def test_malformed_urls_are_refused_without_their_secrets(url, use):
    with pytest.raises(AeSearchError) as told:
        use(url)
        pytest.fail("no error")
    error = told.value
    while error is not None:
        assert SECRET not in str(error) and PLAIN not in str(error)
        error = error.__cause__


def mode(url, **environment):
    parameters = PostgresPlace.parse(url + "&index=a").parameters
    return parameters.get("sslmode"), parameters.get("sslrootcert")


@pytest.fixture(autouse=True)
def _no_settings_of_libpq(monkeypatch, tmp_path):
    for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLROOTCERT", "PGSSLMODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_tls_is_checked_unless_the_server_is_on_this_machine(monkeypatch, tmp_path):
    for local in ("localhost", "127.0.0.1", "[::1]", "127.8.8.8", "", "localhost,127.0.0.1"):
        assert mode(f"postgresql://{local}/db?connect_timeout=3") == (None, None), local
    assert mode("postgresql:///db?host=/run/postgresql") == (None, None)
    for remote in ("db.example.org", "10.0.0.1", "localhost,db", "localhost.example.org", "[2001:db8::1]"):
        assert mode(f"postgresql://{remote}/db?connect_timeout=3") == ("verify-full", "system"), remote
    assert mode("postgresql://localhost/db?hostaddr=10.0.0.1") == ("verify-full", "system")
    assert mode("postgresql://db/db?sslmode=require") == ("require", None)
    assert mode("postgresql://db/db?sslrootcert=/ca.pem") == ("verify-full", "/ca.pem")
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert mode("postgresql://db/db?connect_timeout=3") == ("verify-full", "system")
    monkeypatch.setenv("PGHOST", "db")
    assert mode("postgresql:///db?connect_timeout=3") == ("verify-full", "system")
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").touch()
    assert mode("postgresql://db/db?connect_timeout=3") == ("verify-full", None)


def test_a_pickle_has_no_secret():
    place = PostgresPlace.parse(f"postgresql://me:{SECRET}@h/db?index=a")
    assert PLAIN.encode() not in pickle.dumps(place.name)


def test_a_folder_stays_a_folder():
    assert place_name("indexes/photos") == "indexes/photos"
    with pytest.raises(ConfigurationError):
        place_name("http://host/x")


def test_a_process_that_serves_it_too_can_open_it():
    url = f"postgresql://worker:{SECRET}@h/db?index=a"
    shared = SharedPlace.of(place_name(url))
    assert not any(text in repr(shared) for text in (SECRET, PLAIN))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        assert other.submit(password_there, "postgresql://worker@h/db?index=a").result() is None
        assert other.submit(password_there, shared).result() == PLAIN


def password_there(place):
    if isinstance(place, SharedPlace):
        place.know()
        place = place.name
    return PostgresPlace.parse(place).parameters.get("password")
