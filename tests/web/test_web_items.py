"""Looking at items, and changing them."""

import json

import pytest
from pictures import coloured_picture, encoded
from web_items import COUNT, PNG, key, label, metadata, picture

from ae_search.index import LatentIndex


def test_an_item(http):
    answer = http.get("/v1/item", params={"key": key(7)}).json()
    assert (answer["key"], answer["label"], answer["metadata"]) == (key(7), label(7), metadata(7))
    assert http.get(answer["thumbnail"]).headers["content-type"] == "image/jpeg"
    assert http.get("/v1/item", params={"key": "none"}).json()["code"] == "NotFound"


def test_a_list_of_items_with_thumbnails(http):
    items = http.get("/v1/items", params={"limit": 10, "thumbnails": True}).json()["items"]
    assert [one["label"] for one in items] == [label(at) for at in range(10)]
    assert [bool(one["thumbnail"]) for one in items] == [at != 5 for at in range(10)]


def test_labels_and_fields_with_counts(http):
    labels = http.get("/v1/labels").json()
    assert labels["items"] == COUNT and not labels["more"]
    assert {one["label"]: one["count"] for one in labels["labels"]} == {"bag": 40, "boot": 40, None: 40}
    found = http.get("/v1/labels", params={"find": "BO"}).json()
    assert found == {"labels": [{"label": "boot", "count": 40}], "items": COUNT, "more": False}
    assert http.get("/v1/labels", params={"find": "x" * 1001}).status_code == 400
    fields = {one["name"]: one for one in http.get("/v1/fields").json()["fields"]}
    assert fields["price"]["kinds"] == ["number"]
    assert (fields["price"]["min"], fields["price"]["max"], fields["price"]["items"]) == (1, COUNT - 1, 90)
    assert {one["value"]: one["count"] for one in fields["colour"]["values"]} == {"red": 60, "blue": 30}


def test_add_describe_replace_and_remove(writing, own_index):
    new = encoded(coloured_picture(500))
    added = writing.post("/v1/items", params={"key": "new/1.png", "label": "hat"}, content=new, headers=PNG)
    assert (added.status_code, added.json()) == (201, {"added": 1})
    first = writing.post("/v1/search", content=new, headers=PNG).json()["neighbours"][0]
    assert (first["key"], first["label"]) == ("new/1.png", "hat") and first["similarity"] > 0.9999
    assert writing.get("/v1/labels").json()["items"] == COUNT + 1
    changes = [{"key": "new/1.png", "metadata": {"price": 3}}, {"key": key(1), "label": None}]
    assert writing.patch("/v1/items", json={"items": changes}).json() == {"updated": 2}
    item = writing.get("/v1/item", params={"key": "new/1.png"}).json()
    assert (item["label"], item["metadata"]) == ("hat", {"price": 3})
    assert writing.get("/v1/item", params={"key": key(1)}).json() | {"thumbnail": 0} == {
        "key": key(1), "label": None, "metadata": metadata(1), "thumbnail": 0,
    }  # fmt: skip
    other = encoded(coloured_picture(501))
    assert writing.put("/v1/item/image", params={"key": "new/1.png"}, content=other, headers=PNG).status_code == 200
    changed = writing.get("/v1/item", params={"key": "new/1.png"}).json()
    assert changed["thumbnail"] != item["thumbnail"] and changed["label"] == "hat"
    assert writing.delete("/v1/item", params={"key": "new/1.png"}).status_code == 204
    assert writing.post("/v1/items/remove", json={"keys": [key(0), key(7)]}).json() == {"removed": 2}
    with LatentIndex.open(own_index) as index:
        assert len(index) == COUNT - 2 and index.known(["new/1.png", key(0), key(7)]) == set()


def test_many_by_a_form_all_or_none(writing, own_index):
    items = [{"key": f"new {at}", "label": "hat", "metadata": {"at": at}} for at in range(3)]
    files = [("images", (f"{at}", picture(600 + at), "image/png")) for at in range(3)]
    assert writing.post("/v1/items", data={"items": json.dumps(items)}, files=files).json() == {"added": 3}
    again = writing.post("/v1/items", data={"items": json.dumps(items)}, files=files)
    assert (again.status_code, again.json()["code"]) == (409, "Conflict")
    assert again.json()["errors"][0] == {"key": "new 0", "code": "Conflict", "detail": "It is there already."}
    more = [{"key": f"more {at}"} for at in range(3)]
    files[1] = ("images", ("bad", b"no image", "image/png"))
    bad = writing.post("/v1/items", data={"items": json.dumps(more)}, files=files)
    assert (bad.status_code, bad.json()["code"]) == (422, "ImageError")
    assert [one["key"] for one in bad.json()["errors"]] == ["more 1"]
    with LatentIndex.open(own_index) as index:
        assert len(index) == COUNT + 3
        assert index.details(["new 2"]) == [("hat", {"at": 2})] and index.thumbnail("new 2")


IMAGE = {"content": picture(1), "headers": PNG}
ONE_FILE = {"files": {"images": b"x"}}
WRONG = [
    ("PATCH", "/v1/items", {"json": {"items": [{"key": "none", "label": "x"}]}}, 404, "NotFound"),
    ("PATCH", "/v1/items", {"json": {"items": []}}, 400, "BadRequest"),
    ("PATCH", "/v1/items", {"json": {"items": [{"key": key(1)}, {"key": key(1)}]}}, 400, "BadRequest"),
    ("PATCH", "/v1/items", {"json": {"items": [{"key": key(1), "thumbnail": "x"}]}}, 400, "BadRequest"),
    ("PATCH", "/v1/items", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "BadRequest"),
    ("POST", "/v1/items/remove", {"json": {"keys": ["none"]}}, 404, "NotFound"),
    ("POST", "/v1/items/remove", {"json": {"keys": [key(1), key(1)]}}, 400, "BadRequest"),
    ("DELETE", "/v1/item", {"params": {"key": "none"}}, 404, "NotFound"),
    ("PUT", "/v1/item/image", {"params": {"key": "none"}} | IMAGE, 404, "NotFound"),
    ("PUT", "/v1/item/image", {"params": {"key": key(1)}, "content": b"x", "headers": PNG}, 422, "ImageError"),
    ("POST", "/v1/items", IMAGE, 400, "BadRequest"),
    ("POST", "/v1/items", {"params": {"key": "a", "metadata": "["}} | IMAGE, 400, "BadRequest"),
    ("POST", "/v1/items", {"params": {"key": "a\0b"}} | IMAGE, 400, "ConfigurationError"),
    ("POST", "/v1/items", {"params": {"key": "a"}, "json": {}}, 415, "UnsupportedMediaType"),
    ("POST", "/v1/items", {"data": {"items": "[]"}} | ONE_FILE, 400, "BadRequest"),
    ("POST", "/v1/items", {"data": {"items": "{"}} | ONE_FILE, 400, "BadRequest"),
    ("POST", "/v1/items", {"data": {"items": '[{"key": "a"}, {"key": "b"}]'}} | ONE_FILE, 400, "BadRequest"),
]


@pytest.mark.parametrize("at", range(len(WRONG)))
def test_a_change_that_is_refused_changes_nothing(writing_shared, at):
    method, address, request, status, code = WRONG[at]
    client, place = writing_shared
    answer = client.request(method, address, **request)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    with LatentIndex.open(place) as index:
        assert len(index) == COUNT and index.details([key(1)]) == [(label(1), metadata(1))]


def test_the_page_is_sent_packed_to_who_takes_it(http):
    for address in ("/", "/page/page.css", "/page/main.js"):
        plain = http.get(address, headers={"accept-encoding": "identity"})
        packed = http.get(address, headers={"accept-encoding": "br, gzip"})
        assert "content-encoding" not in plain.headers and packed.headers["content-encoding"] == "gzip"
        assert plain.content == packed.content
        assert int(packed.headers["content-length"]) < int(plain.headers["content-length"])
        assert plain.headers["etag"] == packed.headers["etag"]
        assert plain.headers["vary"] == packed.headers["vary"] == "accept-encoding"
        for encoding in ("identity", "gzip"):
            given = {"if-none-match": plain.headers["etag"], "accept-encoding": encoding}
            again = http.get(address, headers=given)
            assert (again.status_code, again.content) == (304, b"")
        refused = http.get(address, headers={"accept-encoding": "gzip;q=0"})
        assert "content-encoding" not in refused.headers
    assert "content-encoding" not in http.get("/v1/items", headers={"accept-encoding": "gzip"}).headers
