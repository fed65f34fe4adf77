"""Who may come in: keys, sessions, host names, pages of other sites."""

import stat

import httpx
import pytest
from live import options_of, running
from web_items import PNG, key, picture

from ae_search.errors import ConfigurationError
from ae_search.web import AccessKeys, Doors
from ae_search.web.access_keys import Role
from ae_search.web.app import create_app
from ae_search.web.gate import SECURITY_HEADERS, needed_role

READ, WRITE = "r" * 16, "w" * 20


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    for name, text in (("read", f"{READ}\n{'s' * 16}\n"), ("write", WRITE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return AccessKeys.from_files(folder / "read", folder / "write")


@pytest.fixture(scope="module")
def guarded(web_index, served, keys, tmp_path_factory):
    """A client without a key of a service that wants one."""
    doors = Doors(keys=keys, origins=("https://shop.example",), names=("search.example",))
    with running(options_of(web_index, served, tmp_path_factory.mktemp("uploads"), doors=doors)) as client:
        yield client


def bearer(text):
    return {"authorization": f"Bearer {text}"}


def test_every_route_of_the_document_wants_a_key(guarded, keys):
    document = guarded.get("/openapi.json", headers=bearer(READ)).json()
    free = {"/healthz", "/readyz", "/v1/session"}
    seen = 0
    for path, operations in document["paths"].items():
        for method in operations:
            if path in free:
                continue
            seen += 1
            address = path.replace("{digest}", "0" * 64)
            assert guarded.request(method, address).json()["code"] == "LoginNeeded", (method, path)
            wrong = guarded.request(method, address, headers=bearer("x" * 16))
            assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
            if method in ("put", "patch", "delete") or path.startswith("/v1/items") and method == "post":
                assert guarded.request(method, address, headers=bearer(READ)).json()["code"] == "Forbidden"
    assert seen > 12
    for path in free:
        assert guarded.get(path).status_code == 200
    assert guarded.get("/openapi.json").status_code == 401


def test_what_is_new_needs_a_write_key_unless_it_reads():
    assert needed_role("POST", "/v1/anything") is Role.WRITER
    assert needed_role("PURGE", "/v1/index") is Role.WRITER
    assert needed_role("GET", "/v1/anything") is Role.READER
    assert needed_role("POST", "/v1/search") is Role.READER
    assert needed_role("GET", "/") is Role.NOBODY


@pytest.mark.parametrize("text", [READ, "s" * 16, WRITE])
def test_each_key_reads(guarded, text):
    assert guarded.get("/v1/search", params={"key": key(1)}, headers=bearer(text)).status_code == 200
    assert guarded.get("/v1/index", headers=bearer(text)).json()["features"]["write"] is (text == WRITE)


def test_the_page_logs_in_and_out(guarded):
    address = str(guarded.base_url)
    with httpx.Client(base_url=address) as page:
        nobody = {"read": False, "write": False, "read_key": True, "write_key": True}
        assert page.get("/v1/session").json() == nobody
        assert page.post("/v1/session", json={"key": "wrong"}).json()["code"] == "LoginNeeded"
        answer = page.post("/v1/session", json={"key": READ})
        assert answer.json() == nobody | {"read": True}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and READ not in cookie
        assert page.get("/v1/search", params={"key": key(1)}).status_code == 200
        refused = page.delete("/v1/item", params={"key": "none"})
        assert (refused.status_code, refused.json()["code"]) == (403, "Forbidden")
        assert page.post("/v1/session", json={"key": WRITE}).json()["write"] is True
        assert page.delete("/v1/item", params={"key": "none"}).json()["code"] == "NotFound"
        assert page.delete("/v1/session").status_code == 204
        assert page.get("/v1/session").json() == nobody


def test_sessions_end_and_cannot_be_forged(keys):
    cookie = keys.session(Role.READER, now=1000.0)
    assert keys.of_session(cookie, now=2000.0) is Role.READER
    assert keys.of_session(cookie, now=1000.0 + 13 * 3600) is Role.NOBODY
    role, expires, seal = cookie.split(".")
    for forged in (f"2.{expires}.{seal}", f"{role}.9{expires}.{seal}", f"{role}.{expires}.", "", "..", "ä.ö.ü", "1.2"):
        assert keys.of_session(forged, now=2000.0) is Role.NOBODY
    assert AccessKeys(keys.readers[:1], keys.writers).of_session(cookie, now=2000.0) is Role.NOBODY  # a key has gone


def test_strange_cookies_are_nobody(guarded):
    for cookie in ("ae-search-session=", "ae-search-session=1.2.3", "a=b; c", 'x="', "ae-search-session=\xe4"):
        assert guarded.get("/v1/index", headers={"cookie": cookie.encode("latin-1")}).status_code == 401


@pytest.mark.parametrize("text", ["short", "", "a key with an umlaut: äöü", "k" * 2000])
def test_keys_that_are_none(tmp_path, text):
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigurationError, match="--read-key-file"):
        AccessKeys.from_files(file, None)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    file = tmp_path / "key"
    file.write_text(READ)
    file.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        AccessKeys.from_files(None, file)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.", "[::2]"])
def test_other_host_names_are_not_answered(guarded, host):
    answer = guarded.get("/", headers={"host": host})
    assert (answer.status_code, answer.json()["code"]) == (421, "WrongHost")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8600", "search.example"])
def test_own_host_names_are(guarded, host):
    assert guarded.get("/healthz", headers={"host": host}).status_code == 200


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=range(len(FOREIGN)))
def test_pages_of_other_sites_reach_nothing(guarded, http, headers):
    for client, more in ((guarded, bearer(WRITE)), (http, {})):
        answer = client.post("/v1/search", content=picture(1), headers=PNG | more | headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "Forbidden")
    if "sec-fetch-site" in headers:
        assert http.get("/v1/index", headers=headers).status_code == 403
        assert http.get("/healthz", headers=headers).status_code == 200


def test_the_page_itself_does(http):
    own = {"origin": str(http.base_url).rstrip("/"), "sec-fetch-site": "same-origin"}
    assert http.post("/v1/search", content=picture(1), headers=PNG | own).status_code == 200


def test_a_named_origin_may_call(guarded):
    origin = {"origin": "https://shop.example", "sec-fetch-site": "cross-site"}
    answer = guarded.get("/v1/search", params={"key": key(1)}, headers=origin | bearer(READ))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://shop.example")
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert guarded.options("/v1/search", headers=origin | asked).status_code == 200
    other = guarded.get("/v1/index", headers=bearer(READ) | {"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_the_page_answers_head_without_a_body(http):
    for address in ("/", "/page/page.css"):
        told, whole = (ask(address, headers={"accept-encoding": "identity"}) for ask in (http.head, http.get))
        assert (told.status_code, told.content) == (200, b"")
        assert told.headers["content-length"] == str(len(whole.content))


def test_every_answer_carries_the_headers(http):
    for address in ("/", "/v1/index", "/v1/search", "/nothing", "/v1/thumbnail"):
        headers = http.get(address).headers
        for name, value in SECURITY_HEADERS:
            assert headers.get(name.decode()), (address, name)
            if name != b"content-security-policy":
                assert headers[name.decode()] == value.decode()
        assert "unsafe" not in headers["content-security-policy"]
        assert "server" not in headers


def test_without_a_write_key_nothing_is_changed(http):
    answer = http.delete("/v1/item", params={"key": key(1)})
    assert (answer.status_code, answer.json()["code"]) == (403, "Forbidden")
    assert "--write-key-file" in answer.json()["detail"]


UNSAFE = [
    {"host": "0.0.0.0"},
    {"host": "192.0.2.1"},
    {"host": "0.0.0.0", "public": True, "keys": AccessKeys(open_writes=True)},
    {"origins": ("*",)},
    {"origins": ("shop.example",)},
    {"origins": ("https://shop.example/",)},
]


@pytest.mark.parametrize("at", range(len(UNSAFE)))
def test_what_is_not_safe_is_refused(at):
    with pytest.raises(ConfigurationError):
        Doors(**UNSAFE[at])


def test_what_others_can_reach_answers_to_any_name_unless_some_are_given(web_index, served, tmp_path):
    assert Doors(host="0.0.0.0", public=True).answered_names is None
    assert "a.example" in Doors(host="0.0.0.0", public=True, names=("A.example",)).answered_names
    assert create_app(options_of(web_index, served, tmp_path))
