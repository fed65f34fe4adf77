"""The page when things go wrong: a service that dies, a model that moves, an empty index, a key, hostile items."""

import numpy as np
import pytest
from build_options import build_options
from grid_model import CARD, CARDS, GridModel, latents_of, seen
from pictures import coloured_picture, encoded
from shop import Shop

from ae_search.image_file import thumbnail
from ae_search.index import IndexBuilder, LatentIndex

PHOTO = encoded(coloured_picture(5, (200, 150)))


@pytest.fixture
def own_shop(tmp_path):
    return Shop(tmp_path, items=130)


@pytest.mark.slow
def test_a_service_that_is_killed_and_comes_back(start_service, open_face, own_shop):
    service = start_service(own_shop.index)
    face = open_face(service.address).open(f"?key={own_shop.keys[0]}").shown()
    service.kill()
    face.tile(face.keys[2]).locator(".open").click()
    face.wait_for_notice("The search service does not answer.")
    service.start()
    face.shown()
    assert len(face.keys) > 10
    face.page.locator(".notice", has_text="does not answer").wait_for(state="detached")


@pytest.mark.slow
def test_a_model_server_that_is_away_leaves_searches_by_key(start_service, open_face, own_shop):
    model = GridModel()
    service = start_service(own_shop.index, "--timeout", "2", model=model)
    face = open_face(service.address).open()
    face.choose(PHOTO).shown()
    model.stop()
    face.choose(encoded(coloured_picture(6, (200, 150))))
    face.wait_for_notice("The model server")
    model.start()
    face.shown()
    assert face.page.locator(".notice.wrong").count() == 0
    model.stop()
    face.open(f"?key={own_shop.keys[1]}").shown()
    assert len(face.keys) > 10


@pytest.mark.slow
def test_an_index_that_moves_to_a_new_model(start_service, open_face, own_shop):
    model = GridModel()
    service = start_service(own_shop.index, model=model)
    face = open_face(service.address).open(f"?key={own_shop.keys[0]}&unfold=1").shown()
    before = face.keys[:20]
    assert face.page.locator("#end").is_hidden()
    model.served = [1, 2]
    with LatentIndex.open(own_shop.index) as index, index.rebuilding(CARDS[2]) as writer:
        for latents, items in index.blocks():
            writer.add_items(latents[..., ::-1].copy(), items)
    # The next page belongs to the latents of before, so all of it is found anew.
    face.page.evaluate("() => scrollTo(0, document.documentElement.scrollHeight)")
    face.wait_for_notice("The index has moved to a new model, grid, version 2.")
    face.shown()
    assert face.keys[:20] == before
    face.choose(PHOTO).shown()
    assert len(face.keys) > 10
    model.stop()


def test_an_empty_index_says_so(start_service, open_face, own_shop):
    with LatentIndex.open(own_shop.index) as index:
        index.remove(own_shop.keys)
    face = open_face(start_service(own_shop.index).address).open()
    face.page.get_by_text("This index is empty.").wait_for()
    face.choose(PHOTO).shown()
    assert face.text("#nothing") == "There is nothing else in this index."


def test_a_key_is_asked_for_and_kept_as_a_cookie(start_service, open_face, own_shop, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-long-enough-key-for-reading-0123456789\n")
    keys.chmod(0o600)
    service = start_service(own_shop.index, "--read-key-file", str(keys))
    face = open_face(service.address).open(f"?key={own_shop.keys[0]}")
    field = face.page.get_by_placeholder("Key", exact=True)
    # The page asks again as soon as it needs the key.
    field.press("Escape")
    field.wait_for(state="hidden")
    face.page.get_by_role("link", name="ae-search").click()
    field.fill("wrong")
    field.press("Enter")
    face.page.get_by_text("This key is not accepted.").wait_for()
    field.fill("a-long-enough-key-for-reading-0123456789")
    field.press("Enter")
    field.wait_for(state="hidden")
    face.page.go_back()
    face.shown()
    assert len(face.keys) > 10
    # It was asked for before there was a key, and refused.
    face.page.locator("#asked-image").wait_for()
    assert face.page.evaluate("() => document.cookie") == ""
    face.page.reload()
    face.shown()
    face.page.get_by_role("button", name="Log out").click()
    face.page.get_by_role("heading", name="Log in").wait_for()


HOSTILE = [
    "<img src=x onerror=\"document.title='taken'\">",
    "\"><script>document.title='taken'</script>",
    "'><svg onload=document.title='taken'>",
    "javascript:document.title='taken'",
    "../../etc/passwd",
    "a&key=b#c?d=e%20f+g",
    '=HYPERLINK("https://evil.example")',
    "right-to-left \u202egnp.exe",
    "nothing\u200bto\u2066see\ufeff",
    "line\nbreak\ttab",
    "constructor",
    "__proto__",
    "x" * 4000,
]


def test_labels_and_keys_of_strangers_are_text(start_service, open_face, tmp_path, model):
    pictures = [encoded(coloured_picture(seed, (60, 40))) for seed in range(len(HOSTILE))]
    with IndexBuilder(tmp_path / "index", CARD, build_options(n_trees=3)) as builder:
        builder.add(
            latents_of(np.stack([seen(data) for data in pictures])),
            HOSTILE,
            HOSTILE,
            metadata=[{"__proto__": text[:50], "constructor": text[:50], "note": text} for text in HOSTILE],
            thumbnails=[thumbnail(data, "a picture") for data in pictures],
        )
    face = open_face(start_service(tmp_path / "index").address).open()
    face.choose(pictures[0]).shown()
    assert sorted(face.keys) == sorted(HOSTILE)
    examples = open_face(face.address).open().page
    examples.wait_for_function("() => !document.querySelector('#examples .coming')")
    assert len(examples.query_selector_all("#examples .tile")) == len(HOSTILE)
    for text in HOSTILE:
        face.page.evaluate(
            "(key) => [...document.querySelectorAll('#grid .tile')].find((tile) => tile.item.key === key)"
            ".querySelector('.open').click()",
            text,
        )
        face.page.wait_for_function("(key) => new URLSearchParams(location.search).get('key') === key", arg=text)
        face.shown()
        assert text not in face.keys
        assert len(face.keys) == len(HOSTILE) - 1
        face.page.go_back()
        face.page.wait_for_function("() => location.search.includes('image=')")
        face.shown()
    assert face.page.evaluate("() => document.querySelectorAll('script').length") == 2
    assert face.page.locator("#labels-list li").count() == 12
    shown = face.page.evaluate("() => document.body.innerText")
    assert "taken" not in face.page.title()
    assert not set("\u202e\u200b\u2066\ufeff") & set(shown)
    assert HOSTILE[0] in shown
