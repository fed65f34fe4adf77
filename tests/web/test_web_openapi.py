"""The OpenAPI document tells the truth: a client that has nothing else works, and nobody finds a 500."""

import shutil

import pytest
import schemathesis
from document_client import DocumentClient
from hypothesis import HealthCheck, Phase, given, settings
from live import options_of, running
from schemathesis import checks
from schemathesis.checks import load_all_checks
from web_items import key, picture

from ae_search.web import AccessKeys, Doors, Limits

CHECKS = ["not_a_server_error", "content_type_conformance", "response_schema_conformance"]


@pytest.fixture(scope="module")
def documented(own_place, served, tmp_path_factory):
    """A service that may be changed, to be changed by strangers."""
    doors = Doors(keys=AccessKeys(open_writes=True))
    uploads = tmp_path_factory.mktemp("uploads")
    with running(options_of(own_place, served, uploads, doors=doors, limits=Limits(body_s=2.0))) as http:
        yield http


@pytest.fixture(scope="module")
def own_place(web_index, tmp_path_factory):
    return shutil.copytree(web_index, tmp_path_factory.mktemp("documented") / "index")


def test_every_operation_works_for_a_client_of_the_document(documented):
    client = DocumentClient(documented)
    done = set()

    def call(name, **given):
        done.add(name)
        return client.call(name, **given)

    found = call("search", key=key(1), k=3, thumbnails=True, fold=True)
    assert len(found["neighbours"]) == 3
    assert call("search", key=key(1), k=3, cursor=found["next"])["neighbours"][0]["rank"] == 4
    assert call("search_by_body", body=picture(2), media_type="image/png")["neighbours"][0]["key"] == key(2)
    in_json = {"like": [key(1)], "unlike": [key(2)], "where": {"label": {"in": ["bag"]}}}
    assert call("search_by_body", body=in_json, media_type="application/json")["neighbours"]
    kept = call("keep_image", body=picture(3), media_type="image/png")
    assert call("kept_image", digest=kept["image"]) == picture(3)
    assert call("search", image=kept["image"], plain=True)["plain"] is False
    why = {"image": kept["image"], "with": key(2), "steps": 3, "parts": 2}
    assert len(call("explain", body=why, media_type="application/json")["walk"]) == 3
    assert call("add_items", key="new", label="hat", body=picture(200), media_type="image/png") == {"added": 1}
    assert call("get_item", key="new")["label"] == "hat"
    change = {"items": [{"key": "new", "label": None, "metadata": {"a": [1, None]}}]}
    assert call("describe_items", body=change, media_type="application/json") == {"updated": 1}
    assert call("replace_image", key="new", body=picture(201), media_type="image/png") == {"updated": 1}
    assert call("get_thumbnail", key="new").startswith(b"\xff\xd8")
    assert call("remove_item", key="new") is None
    assert call("remove_items", body={"keys": [key(9)]}, media_type="application/json") == {"removed": 1}
    assert len(call("list_items", limit=5)["items"]) == 5
    for name in ("list_labels", "list_fields", "get_index", "get_session", "healthz", "readyz", "metrics"):
        assert call(name)
    assert call("log_in", body={"key": "x" * 16}, media_type="application/json")["code"] == "LoginNeeded"
    assert call("log_out") is None
    assert done == set(client.operations)


def test_problems_are_in_the_document(documented):
    client = DocumentClient(documented)
    for name, parameters in (
        ("search", {"key": "none"}),
        ("search", {}),
        ("search_by_body", {"body": b"x", "media_type": "image/png"}),
        ("get_item", {"key": "none"}),
        ("remove_item", {"key": "none"}),
    ):
        assert client.call(name, **parameters)["code"]


def test_examples_of_the_document_fit_its_schemas(documented):
    client = DocumentClient(documented)
    examples = 0
    for _, _, operation in client.operations.values():
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                if "example" in content:
                    client.check(content["example"], content["schema"])
                    examples += 1
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            for example in schema.get("examples", []):
                client.check(example, schema)
                examples += 1
    assert examples > 15


# To make requests of a document takes a while; all of them are tried by the slow tests.
SOME = {"search", "explain", "get_item", "describe_items", "list_items"}


@pytest.mark.parametrize(
    ("names", "examples"), [(SOME, 4), pytest.param(None, 60, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_strangers_find_no_500(documented, names, examples):
    load_all_checks()
    schema = schemathesis.openapi.from_url(f"{documented.base_url}/openapi.json")
    wanted = checks.CHECKS.get_by_names(
        ["not_a_server_error", "content_type_conformance", "response_schema_conformance"]
    )
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if names is not None and operation.definition.raw["operationId"] not in names:
            continue

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @schemathesis_cases(operation)
        def attack(case):
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=wanted, base_url=str(documented.base_url))

        attack()
    assert tried > 8


def schemathesis_cases(operation):
    """Return the decorator that gives a function requests for an operation."""
    return given(operation.as_strategy())
