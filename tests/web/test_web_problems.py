"""Each error has a code and a status, and tells a stranger nothing of folders and servers."""

import asyncio
import json
import logging
from dataclasses import replace

import pytest
from live import options_of, running
from pixel_encoder import CARD
from web_items import PNG, key, picture

from ae_search import errors
from ae_search.index import LatentIndex
from ae_search.web import Served
from ae_search.web.app import create_app
from ae_search.web.problems import OWN, STATUSES, Problem, problem_of


def test_every_class_of_errors_has_a_status_of_its_own():
    classes = {getattr(errors, name) for name in errors.__all__}
    assert set(STATUSES) == classes, "name the HTTP status of each class in web/problems.py"


@pytest.mark.parametrize("name", errors.__all__)
def test_each_class_becomes_a_problem(name):
    problem = problem_of(getattr(errors, name)("/srv/index holds no such item"), "/srv/index")
    told = json.loads(problem.body())
    assert (told["code"], told["type"]) == (name, f"urn:ae-search:problem:{name}")
    assert told["status"] == STATUSES[getattr(errors, name)] and told["title"].endswith(".")
    assert "/srv" not in told["detail"]


def test_codes_of_the_service_and_of_errors_differ():
    assert not set(OWN) & set(errors.__all__)
    assert Problem("Busy").headers()["retry-after"] == "1"


def test_a_subclass_that_nobody_named_is_told_by_its_base():
    class Newer(errors.ImageError):
        pass

    assert problem_of(Newer("x"), "index").code == "ImageError"


def test_a_model_server_that_is_away(web_index, tmp_path):
    encoder = Served("127.0.0.1:1", "tiny", timeout_s=1.0)
    with running(options_of(web_index, encoder, tmp_path)) as client:
        for answer in (client.post("/v1/search", content=picture(1), headers=PNG), client.get("/readyz")):
            assert (answer.status_code, answer.json()["code"]) == (503, "ServerUnavailableError")
            assert "127.0.0.1" not in answer.text and answer.headers["retry-after"]
        # What needs no model goes on.
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/v1/search", params={"key": key(1)}).status_code == 200
        assert client.get("/v1/search", params={"like": key(1), "unlike": key(2)}).status_code == 200


def test_a_model_of_another_fingerprint(own_index, served, tmp_path):

    with LatentIndex.open(own_index) as index:
        index.rebuild(replace(CARD, latent_dim=8), index.latents)
    with running(options_of(own_index, served, tmp_path / "uploads")) as client:
        for answer in (client.post("/v1/search", content=picture(1), headers=PNG), client.get("/readyz")):
            assert (answer.status_code, answer.json()["code"]) == (503, "ModelMismatchError")


def test_a_cursor_ends_with_the_model_that_it_began_with(own_index, served, tmp_path):

    with running(options_of(own_index, served, tmp_path / "uploads")) as client:
        cursor = client.get("/v1/search", params={"key": key(1)}).json()["next"]
        with LatentIndex.open(own_index) as index:
            index.rebuild(replace(CARD, latent_dim=8), index.latents)
        answer = client.get("/v1/search", params={"key": key(1), "cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (409, "ModelMismatchError")
        assert client.get("/v1/search", params={"key": key(1)}).status_code == 200


def test_our_own_mistake_is_logged_and_told_as_one(web_options, caplog):
    """A service whose index is closed under it."""
    app = create_app(web_options)
    sent = []

    async def one():
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "method": "GET", "path": "/v1/item", "raw_path": b"/v1/item", "query_string": b"key=a",
            "headers": [(b"host", b"localhost")], "scheme": "http", "http_version": "1.1", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        }  # fmt: skip
        find_app(app).state.service.index.close()
        await app(scope, receive, send)

    def find_app(layer):
        while not hasattr(layer, "state"):
            layer = layer._app
        return layer

    with caplog.at_level(logging.ERROR):
        asyncio.run(one())
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["code"] == "InternalError"
    assert "a request failed" in caplog.text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PROPFIND"])
def test_paths_and_methods_that_are_none(http, method):
    answer = http.request(method, "/nothing")
    assert answer.json()["code"] in ("NotFound", "MethodNotAllowed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert http.request("POST", "/healthz").json()["code"] == "MethodNotAllowed"
