"""Page after page until nothing is left: each item once, in the same answer whichever process is asked."""

import json
from functools import partial

import pytest
from live import options_of, running
from web_items import COUNT, PNG, key, told

QUESTIONS = [
    {"key": key(3)},
    {"key": key(3), "exact": True},
    {"key": key(3), "where": '{"colour": "red"}'},
    {"key": key(3), "label": "bag"},
    {"like": [key(3), key(4)], "unlike": [key(9)]},
]


def follow(ask, k):
    """Return all neighbours, page by page."""
    found, pages = [], 0
    cursor = {}
    while True:
        answer = ask(k=k, **cursor)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["neighbours"]) <= k
        found += page["neighbours"]
        pages += 1
        if page["next"] is None:
            assert not page["more"]
            return found, pages
        cursor = {"cursor": page["next"]}


def page_of(http, question, **more):
    return http.get("/v1/search", params=question | more)


@pytest.mark.parametrize("at", range(len(QUESTIONS)))
@pytest.mark.parametrize("k", [7, 40])
def test_each_item_comes_once(http, oracle, at, k):
    question = QUESTIONS[at]
    found, pages = follow(lambda **more: http.get("/v1/search", params=question | more), k)
    if "where" in question:
        expected = oracle.index.keys(where=json.loads(question["where"]))
        expected = [one for one in expected if one != question["key"]]
    elif "label" in question:
        expected = [one for one in oracle.index.keys(where={"label": "bag"}) if one != question["key"]]
    else:
        shown = {question.get("key"), *question.get("like", []), *question.get("unlike", [])}
        expected = [one for one in oracle.index.keys() if one not in shown]
    assert sorted(one["key"] for one in found) == sorted(expected)
    assert [one["rank"] for one in found] == list(range(1, len(found) + 1))
    assert pages >= len(found) / k
    if question.get("exact"):
        assert found == told(oracle.index.search_by_key(key(3), COUNT, exact=True))


def test_an_image_and_its_views(http, oracle, strange):
    kept = http.post("/v1/uploads", content=strange, headers=PNG).json()["image"]
    every = sorted(oracle.index.keys())
    for question in ({"image": kept}, {"image": kept, "views": True}, {"image": kept, "originals": True}):
        found, _ = follow(partial(page_of, http, question), 50)
        assert sorted(one["key"] for one in found) == every
    assert all(one["verdict"] for one in found)


def test_a_body_can_be_sent_again_with_the_cursor(http, oracle, strange):
    found, _ = follow(lambda **more: http.post("/v1/search", params=more, content=strange, headers=PNG), 50)
    assert len(found) == COUNT
    latent = oracle.index.latents([key(2)])[0].tolist()
    found, _ = follow(lambda **more: http.post("/v1/search", json={"latent": latent} | more), 50)
    assert len(found) == COUNT


def test_a_cursor_belongs_to_its_question(http):
    cursor = http.get("/v1/search", params={"key": key(3), "k": 5}).json()["next"]
    same = http.get("/v1/search", params={"key": key(3), "k": 5, "cursor": cursor, "thumbnails": True, "fold": True})
    assert same.status_code == 200
    for other in ({"key": key(4), "k": 5}, {"key": key(3), "k": 6}, {"key": key(3), "k": 5, "label": "bag"}):
        answer = http.get("/v1/search", params=other | {"cursor": cursor})
        assert (answer.status_code, answer.json()["code"]) == (400, "BadRequest")


def test_another_process_goes_on_with_the_same_pages(http, web_options):
    def pages_of(clients):
        turns = []

        def ask(**more):
            turns.append(1)
            return clients[len(turns) % len(clients)].get("/v1/search", params={"key": key(8)} | more)

        return follow(ask, 11)[0]

    with running(web_options) as other:
        assert pages_of([http, other]) == pages_of([http])


def test_what_the_first_page_missed_stands_on_the_second(own_index, served, tmp_path):
    """With the least effort the first page misses much; nothing of it is lost."""
    with running(options_of(own_index, served, tmp_path / "uploads")) as client:
        found, _ = follow(lambda **more: client.get("/v1/search", params={"key": key(3), "effort": 1} | more), 10)
    assert len({one["key"] for one in found}) == len(found) == COUNT - 1


def test_a_folded_one_may_lie_a_page_before(writing, pictures):
    for at in range(3):
        answer = writing.post("/v1/items", params={"key": f"again {at}"}, content=pictures[30], headers=PNG)
        assert answer.status_code == 201
    found, _ = follow(lambda **more: writing.get("/v1/search", params={"key": key(30), "fold": True} | more), 1)
    heads = {one["key"]: one["folded_under"] for one in found}
    assert [heads[f"again {at}"] for at in range(3)] == [None, "again 0", "again 0"]


def test_items_page_by_page(http, oracle):
    for where, expected in (
        (None, oracle.index.keys()),
        ({"colour": "red"}, oracle.index.keys(where={"colour": "red"})),
    ):
        question = {"limit": 17} | ({} if where is None else {"where": json.dumps(where)})
        keys, cursor = [], None
        while True:
            page = http.get("/v1/items", params=question | ({"cursor": cursor} if cursor else {})).json()
            keys += [one["key"] for one in page["items"]]
            cursor = page["next"]
            if cursor is None:
                break
        assert keys == expected
