"""Refining a search on the page: more and less like these, filters, switches, what is folded, and scrolling."""

import json

import numpy as np
import pytest
from build_options import build_options
from grid_model import CARD

from ae_search.image_file import pixels_to_png
from ae_search.index import IndexBuilder

EACH = "&unfold=1"


def names(neighbours):
    return [neighbour["key"] for neighbour in neighbours]


def answer(face, parameters):
    """Ask the service itself."""
    return face.page.evaluate("(address) => fetch(address).then((found) => found.json())", f"/v1/search?{parameters}")


def test_more_like_these_less_like_those(face, shop):
    key = shop.keys[10]
    face.open(f"?key={key}{EACH}").shown()
    before = face.keys
    liked, unliked = before[3], before[1]
    for chosen, words in ((liked, "More like this"), (unliked, "Less like this")):
        face.tile(chosen).hover()
        face.tile(chosen).get_by_role("button", name=words).click()
    assert face.tile(liked).get_by_role("button", name="More like this").get_attribute("aria-pressed") == "true"
    assert len(face.page.query_selector_all("#marked li")) == 2
    assert face.keys == before
    face.page.get_by_role("button", name="Search with these").click()
    face.page.wait_for_function("() => location.search.includes('unlike=')")
    face.shown()
    assert face.keys != before
    assert face.keys[:60] == names(answer(face, f"key={key}&like={liked}&unlike={unliked}&k=60")["neighbours"])
    face.page.get_by_role("button", name="Clear").click()
    face.page.get_by_role("button", name="Search with these").wait_for(state="hidden")


def test_a_filter_leaves_marks_that_were_not_searched_by(face, shop):
    face.open(f"?key={shop.keys[10]}{EACH}").shown()
    liked = face.keys[3]
    face.tile(liked).hover()
    face.tile(liked).get_by_role("button", name="More like this").click()
    face.page.get_by_text("Exact", exact=True).click()
    face.page.wait_for_function("() => location.search.includes('exact=1')")
    face.shown()
    assert face.page.locator("#marked li.like").count() == 1
    assert face.tile(liked).get_by_role("button", name="More like this").get_attribute("aria-pressed") == "true"
    face.page.get_by_role("button", name="Search with these").click()
    face.page.wait_for_function("(key) => new URLSearchParams(location.search).get('like') === key", arg=liked)


def test_nothing_is_searched_by_what_is_unlike_alone(face, shop):
    face.open(f"?like={shop.keys[1]}").shown()
    face.page.locator("#marked button").click()
    unliked = face.keys[2]
    face.tile(unliked).hover()
    face.tile(unliked).get_by_role("button", name="Less like this").click()
    face.page.get_by_role("button", name="Search with these").click()
    face.wait_for_notice("Mark an image as like, too")
    assert face.query == f"?like={shop.keys[1]}"


def test_labels_beyond_those_of_the_page_are_found_by_name(start_service, open_face, tmp_path):
    number = 1100
    latents = np.random.default_rng(1).normal(size=(number, CARD.latent_dim)).astype(np.float32)
    with IndexBuilder(tmp_path / "index", CARD, build_options(n_trees=3)) as builder:
        builder.add(latents, [f"item {at}" for at in range(number)], [f"label {at}" for at in range(number)])
    face = open_face(start_service(tmp_path / "index").address).open("?key=item+1").shown()
    face.page.locator("#labels-find").fill("LABEL 1099")
    face.page.locator("#labels-list label", has_text="label 1099").click()
    face.page.wait_for_function("() => location.search.includes('1099')")
    face.shown()
    assert face.keys == ["item 1099"]
    face.page.locator("#labels-find").fill("of none")
    face.page.get_by_text("No label has this name.").wait_for()


def test_what_is_liked_is_a_search_by_itself(face, shop):
    face.open(f"?like={shop.keys[1]}&like={shop.keys[2]}").shown()
    assert face.text("#asked-name") == "More like 2 images"
    assert len(face.keys) > 10


def test_labels_have_counts_and_filter(face, shop):
    face.open(f"?key={shop.keys[0]}{EACH}").shown()
    boot = face.page.locator("#labels-list label", has_text="boot")
    assert boot.locator("small").inner_text() == "25"
    boot.click()
    face.page.wait_for_function("() => location.search.includes('where=')")
    face.shown()
    assert face.keys
    assert all(key.startswith("boot/") for key in face.keys)
    face.page.locator("#labels-list label", has_text="coat").click()
    face.page.wait_for_function("() => location.search.includes('coat')")
    face.shown()
    assert {key.split("/")[0] for key in face.keys} == {"boot", "coat"}
    face.page.locator("#chips button").click()
    face.page.wait_for_function("() => !location.search.includes('where=')")
    face.shown()
    assert len({key.split("/")[0] for key in face.keys}) > 2


def test_metadata_filter_as_chips(face, shop):
    face.open(f"?key={shop.keys[0]}{EACH}").shown()
    face.page.locator("#field").select_option("price")
    for test, value in (("gte", "20"), ("lt", "40")):
        face.page.locator("#field-test").select_option(test)
        face.page.locator("#field-value").fill(value)
        face.page.locator("#fields button").click()
        face.page.wait_for_function("(test) => location.search.includes(`%22${test}%22`)", arg=test)
        face.shown()
    assert sorted(face.keys) == sorted(shop.keys[20:40])
    assert json.loads(face.page.evaluate("() => new URLSearchParams(location.search).get('where')")) == {
        "price": {"gte": 20, "lt": 40}
    }
    assert [face.text(f"#chips li:nth-child({at}) button > span:first-child") for at in (1, 2)] == [
        "price ≥ 20",
        "price < 40",
    ]
    face.page.locator("#field-test").select_option("gt")
    face.page.locator("#field-value").fill("999")
    face.page.keyboard.press("Enter")
    face.page.locator("#nothing").wait_for()
    assert face.text("#nothing").startswith("Nothing meets these filters.")


def test_near_duplicates_are_folded_under_the_first(face, shop):
    """Item 20 has two that are almost the same."""
    data = shop.files[shop.keys[20]]
    face.open().choose(data).shown()
    [head] = [key for key in face.keys[:1] if key in shop.keys[20:23]]
    others = set(shop.keys[20:23]) - {head}
    assert not others & set(face.keys)
    badge = face.tile(head).get_by_role("button", name="2 near-duplicates")
    badge.click()
    assert set(face.keys[1:3]) == others
    assert badge.get_attribute("aria-expanded") == "true"
    badge.click()
    assert not others & set(face.keys)
    face.page.get_by_text("Show near-duplicates").click()
    face.page.wait_for_function("() => location.search.includes('unfold=1')")
    face.shown()
    assert set(face.keys[:3]) == {head, *others}


def test_switches_reach_the_service(face, shop):
    face.open(f"?key={shop.keys[0]}").shown()
    with face.page.expect_request(lambda request: "exact=true" in request.url):
        face.page.get_by_text("Exact", exact=True).click()
    face.shown()
    assert "exact=1" in face.query
    face.choose(shop.files[shop.keys[0]]).shown()
    with face.page.expect_request(lambda request: "originals=true" in request.url and "views=true" in request.url):
        face.open(f"{face.query}&views=1&originals=1")
    face.shown()
    assert face.page.locator("#verdict").is_visible()
    assert face.text("#verdict") == "This is it: the index has this very image."
    assert face.tile(shop.keys[0]).locator(".judged").inner_text() == "this is it"


def test_why_similar_shows_pictures_and_a_way_between_them(face, shop):
    face.open().choose(shop.files[shop.keys[30]]).shown()
    other = face.keys[1]
    face.tile(other).hover()
    face.tile(other).get_by_role("button", name="Why similar?").click()
    dialog = face.page.get_by_role("dialog", name="Why similar?")
    slider = dialog.get_by_role("slider", name="From the query to the result")
    slider.wait_for()
    assert dialog.locator("canvas").evaluate("(map) => [map.width, map.height]") == [16, 16]
    still = dialog.locator("img.tiny")
    still.evaluate_all("(pictures) => Promise.all(pictures.map((picture) => picture.decode()))")
    assert set(still.evaluate_all("(pictures) => pictures.map((picture) => picture.naturalWidth)")) == {16}
    query, item = (dialog.locator("li img.tiny").nth(at).get_attribute("src") for at in (0, 1))
    walked = dialog.locator(".why-walk img")
    assert walked.get_attribute("src") == query
    slider.press("ArrowRight")
    assert walked.get_attribute("src") not in (query, item)
    assert slider.get_attribute("aria-valuetext") == "6 % of the way"
    slider.press("End")
    assert walked.get_attribute("src") == item
    assert dialog.locator(".why-parts li").count() == 7
    face.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    face.open(f"?key={shop.keys[1]}&like={shop.keys[2]}{EACH}").shown()
    face.tile(face.keys[0]).locator(".open").focus()
    face.page.keyboard.press("w")
    slider.wait_for()


def test_a_query_unlike_the_items_is_marked(face, shop):
    face.open().choose(shop.files[shop.keys[30]]).shown()
    assert face.page.locator("#distrust").is_hidden()
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    face.choose(pixels_to_png(stripes)).shown()
    face.page.get_by_text("unlike what the model was trained on").wait_for()


def test_scrolling_brings_every_item_once(face, shop):
    face.open(f"?key={shop.keys[0]}{EACH}").shown()
    scroll_to_the_end(face)
    assert sorted(face.keys) == sorted(shop.keys[1:])
    assert face.text("#end") == "That is all there is."


def scroll_to_the_end(face):
    face.page.wait_for_function(
        "() => { scrollTo(0, document.documentElement.scrollHeight); return !document.getElementById('end').hidden; }",
        timeout=240_000,
    )


def test_what_can_be_copied(open_face, service, shop):
    face = open_face(service.address, permissions=["clipboard-read", "clipboard-write"])
    face.open(f'?key={shop.keys[0]}&where={{"shop":"north"}}&exact=1{EACH}').shown()

    def copied(words):
        face.page.get_by_role("button", name="Copy", exact=True).click()
        face.page.get_by_role("button", name=words).click()
        face.wait_for_notice("Copied.")
        face.page.locator(".notice button").click()
        return face.page.evaluate("() => navigator.clipboard.readText()")

    found = json.loads(copied("as JSON"))
    assert names(found) == face.keys
    assert found[0]["metadata"]["shop"] == "north"
    table = copied("as CSV").splitlines()
    assert table[0] == "rank,key,label,similarity,distance,metadata"
    assert len(table) == 1 + len(face.keys)
    command = copied("Command line")
    assert command.startswith(f"ae-search query --key={shop.keys[0]} --index ")
    assert command.endswith("""--where '{"shop":"north"}' --exact""")
    assert copied("Address of this search") == face.page.url
    face.open(f"?like={shop.keys[1]}&like={shop.keys[2]}&unlike={shop.keys[3]}").shown()
    examples = f"--like={shop.keys[1]} --like={shop.keys[2]} --unlike={shop.keys[3]}"
    assert copied("Command line").startswith(f"ae-search query {examples} --index ")


@pytest.mark.slow
def test_ten_thousand_results_are_scrolled(start_service, open_face, tmp_path):
    latents = np.random.default_rng(1).normal(size=(10_001, CARD.latent_dim)).astype(np.float32)
    keys = [f"item-{number:05}" for number in range(len(latents))]
    with IndexBuilder(tmp_path / "index", CARD, build_options(n_trees=5)) as builder:
        builder.add(latents, keys)
    face = open_face(start_service(tmp_path / "index").address).open(f"?key={keys[0]}{EACH}").shown()
    scroll_to_the_end(face)
    assert sorted(face.keys) == keys[1:]
