"""Why two images are alike, and when not to believe it: shown where the service says that its model can."""

import pytest
from explaining_service import explaining
from pictures import coloured_picture, encoded


@pytest.fixture(scope="module")
def address():
    with explaining() as served:
        yield served


def test_what_the_model_sees_is_shown(open_face, address):
    face = open_face(address).open("?key=item 3").shown()
    face.tile("item 1").locator(".open").focus()
    face.page.keyboard.press("w")
    dialog = face.page.locator("#why")
    dialog.get_by_text("What carries the similarity").wait_for()
    assert "Similarity 0.750 with item 1" in dialog.inner_text()
    assert [row.inner_text().split()[-1] for row in dialog.locator(".why-parts li").all()] == [
        "0.300",
        "0.200",
        "-0.400",
        "0.050",
    ]
    # The heat map: from what is opposite, through what has nothing in common, to what is the same.
    face.page.wait_for_function("() => document.querySelector('#why canvas').width === 3")
    reds = face.page.evaluate(
        "() => { const canvas = document.querySelector('#why canvas');"
        " const { data } = canvas.getContext('2d').getImageData(0, 0, 3, 1); return [data[0], data[4], data[8]]; }"
    )
    assert reds == pytest.approx([214, 238, 63], abs=2)


def test_the_slider_walks_from_one_to_the_other(open_face, address):
    face = open_face(address).open("?key=item 3").shown()
    face.tile("item 2").hover()
    face.tile("item 2").get_by_role("button", name="Why similar?").click()
    slider = face.page.get_by_role("slider", name="From the query to the result")
    seen = []
    for press in ("Home", "ArrowRight", "End"):
        slider.press(press)
        seen.append(face.page.locator(".why-walk img").get_attribute("src"))
    assert len(set(seen)) == 3
    assert slider.get_attribute("aria-valuetext") == "100 % of the way"
    face.page.keyboard.press("Escape")
    assert not face.page.locator("#why").is_visible()


def test_a_query_unlike_the_training_data_is_marked(open_face, address):
    face = open_face(address).open()
    face.choose(encoded(coloured_picture(1))).shown()
    assert "unlike what the model was trained on" in face.text("#distrust")


def test_without_a_decoder_there_is_no_way_to_it(face, shop):
    def without(route):
        answer = route.fetch()
        told = answer.json()
        told["features"]["explain"] = False
        route.fulfill(response=answer, json=told)

    face.page.route("**/v1/index", without)
    face.open(f"?key={shop.keys[0]}").shown()
    assert face.page.get_by_role("button", name="Why similar?").count() == 0
    face.page.locator("#grid .open").first.focus()
    face.page.keyboard.press("w")
    assert not face.page.locator("#why").is_visible()
