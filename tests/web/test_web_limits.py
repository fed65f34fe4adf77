"""What strangers may hold of the service: bodies, connections, time."""

import socket
import time

import httpx
import pytest
from live import at_once, options_of, running
from raw_http import answer, connected, head, is_closed
from web_items import COUNT, PNG, key, picture

from ae_search.errors import ConfigurationError
from ae_search.web import Limits

MIB = 2**20


@pytest.fixture(scope="module")
def tight(web_index, served, tmp_path_factory):
    """A service with small limits."""
    limits = Limits(
        requests=4, connections=20, body_bytes=MIB, held_bytes=2 * MIB, body_s=1.0, deadline_s=20.0, idle_s=1.0
    )
    with running(options_of(web_index, served, tmp_path_factory.mktemp("uploads"), limits=limits)) as client:
        yield client


def works(http):
    return http.get("/v1/search", params={"key": key(1)}).status_code == 200


def test_a_body_that_is_too_long_is_refused_by_its_length_alone(tight):
    with connected(tight) as peer:
        peer.sendall(head("POST", "/v1/search", content_type="image/png", content_length=MIB + 1))
        said = answer(peer)
    assert said.startswith(b"HTTP/1.1 413 ") and b'"TooLarge"' in said
    assert works(tight)


def test_a_body_without_a_length_is_cut_off_where_it_is_too_long(tight):
    with connected(tight) as peer:
        peer.sendall(head("POST", "/v1/search", content_type="image/png", transfer_encoding="chunked"))
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        try:
            for _ in range(40):
                peer.sendall(chunk)
        except OSError:  # it was closed
            pass
        said = answer(peer)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert works(tight)


def test_the_sender_of_a_large_body_hears_why(tight):
    told = tight.post("/v1/search", content=bytes(3 * MIB), headers=PNG)
    assert (told.status_code, told.json()["code"]) == (413, "TooLarge")
    assert tight.post("/v1/session", content=bytes(5000)).json()["code"] == "TooLarge"


def test_a_body_that_does_not_arrive_ends(tight):
    with connected(tight) as peer:
        peer.sendall(head("POST", "/v1/search", content_type="image/png", content_length=1000) + b"begun")
        said = answer(peer)
    assert said.startswith(b"HTTP/1.1 408 ") and b'"SlowRequest"' in said


@pytest.mark.parametrize("begun", [b"", b"GET /v1/ind", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: "])
def test_a_head_that_does_not_arrive_ends(tight, begun):
    with connected(tight) as peer:
        peer.sendall(begun)
        assert is_closed(peer)


def test_a_head_that_drips_ends(tight):
    with connected(tight) as peer:
        peer.settimeout(0.05)
        began = time.monotonic()
        peer.sendall(b"GET / HTTP/1.1\r\n")
        while time.monotonic() - began < 20:
            try:
                peer.sendall(b"x: y\r\n")
                if not peer.recv(10):
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("it was never cut off")


def test_a_head_without_end_is_cut_off(tight):
    with connected(tight) as peer:
        try:
            for _ in range(400):
                peer.sendall(b"GET / HTTP/1.1\r\n" if not _ else b"x: " + b"y" * 1000 + b"\r\n")
        except OSError:
            pass
        assert is_closed(peer)
    assert works(tight)


def test_idle_connections_make_way_for_new_ones(tight):
    idle = [socket.create_connection((tight.base_url.host, tight.base_url.port)) for _ in range(60)]
    try:
        with httpx.Client(base_url=tight.base_url) as fresh:
            assert works(fresh)
    finally:
        for one in idle:
            one.close()


def test_many_at_once_are_answered_or_told_to_come_again(tight, http):
    body = {"method": "POST", "url": "/v1/search", "content": picture(1), "headers": PNG}
    answers = at_once(str(tight.base_url), [body] * 16)
    statuses = [one.status_code for one in answers if isinstance(one, httpx.Response)]
    assert len(statuses) == 16 and set(statuses) <= {200, 429} and 200 in statuses
    for one in answers:
        if one.status_code == 429:
            assert one.headers["retry-after"] == "1" and one.json()["code"] == "Busy"
    assert works(tight)


def test_two_hundred_connections_at_once(http, oracle, pictures):
    """Within the limits: none is lost, and each gets its own answer."""
    wanted = [at % COUNT for at in range(120)]
    requests = [
        {"method": "POST", "url": "/v1/search?k=1&exact=true", "content": pictures[at], "headers": PNG} for at in wanted
    ]
    health = [{"method": "GET", "url": "/healthz"}] * 80
    answers = at_once(str(http.base_url), requests + health)
    assert [one.status_code for one in answers] == [200] * 200
    assert [one.json()["neighbours"][0]["key"] for one in answers[:120]] == [key(at) for at in wanted]


def test_a_broken_upload_leaves_nothing_behind(tight):
    for _ in range(8):  # twice as many as may be under way
        with connected(tight) as peer:
            peer.sendall(head("POST", "/v1/search", content_type="image/png", content_length=MIB // 2) + bytes(1000))
    time.sleep(0.2)
    assert works(tight)
    large = tight.post("/v1/search", content=bytes(MIB), headers=PNG)
    assert large.json()["code"] == "ImageError"  # there is room for it


def test_bodies_together_have_a_bound(tight):
    begun = []
    try:
        for _ in range(3):
            peer = socket.create_connection((tight.base_url.host, tight.base_url.port))
            peer.sendall(head("POST", "/v1/search", content_type="image/png", content_length=MIB) + bytes(1000))
            begun.append(peer)
        peer.settimeout(20)
        assert peer.recv(100).startswith(b"HTTP/1.1 429 ")
    finally:
        for peer in begun:
            peer.close()


def test_an_answer_in_time_or_none(web_index, served, tmp_path):
    limits = Limits(deadline_s=0.0005)
    with running(options_of(web_index, served, tmp_path, limits=limits)) as client:
        late = client.post("/v1/search?views=true", content=picture(1), headers=PNG)
        assert (late.status_code, late.json()["code"]) == (504, "DeadlineExceeded")
        assert client.get("/healthz").status_code == 200


def test_requests_one_after_another_on_one_connection(http):
    with connected(http) as peer:
        peer.sendall(head("GET", "/healthz") * 50 + head("GET", "/healthz", connection="close"))
        assert answer(peer).count(b"HTTP/1.1 200 ") == 51


def test_what_is_no_http(http):
    with connected(http) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert answer(peer).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("name", ["requests", "connections", "body_bytes", "deadline_s"])
def test_limits_are_above_zero(name):
    with pytest.raises(ConfigurationError):
        Limits(**{name: 0})
