"""Searching on the page: the ways by which an image comes in, and what the address holds."""

import io
import re

import numpy as np
import pytest
from grid_model import latents_of, seen
from odd_images import heic
from pictures import coloured_picture, encoded
from PIL import Image

PHOTO = coloured_picture(31, (400, 300))


def latent_of(data):
    return latents_of(seen(data)[np.newaxis])[0]


def test_a_dropped_image_finds_what_numpy_finds(face, shop):
    face.open("?unfold=1")
    data = encoded(PHOTO)
    face.drop(data).shown()
    assert face.keys[:60] == shop.nearest(latent_of(data))[:60]
    assert re.fullmatch(r"\?image=[0-9a-f]{64}&unfold=1", face.query)
    assert face.text("#asked-name") == "photo.png"


def test_a_pasted_image_is_searched_by(face, shop):
    face.open()
    key = shop.keys[40]
    carried = face.carried(shop.files[key])
    face.page.evaluate("(carried) => dispatchEvent(new ClipboardEvent('paste', { clipboardData: carried }))", carried)
    face.shown()
    assert face.keys[0] == key
    assert face.tile(key).locator(".figure").inner_text() == "1.000"


def test_a_cell_of_a_spreadsheet_is_pasted_as_text(face, shop):
    """It comes as text and as its picture; in a field it is text, elsewhere nothing but the picture is of use."""
    face.open()
    carried = face.carried(shop.files[shop.keys[40]], "image.png")
    carried.evaluate("(carried) => carried.items.add('boot', 'text/plain')")
    paste = "(node, data) => node.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))"
    face.page.locator("#key").evaluate(paste, carried)
    assert face.page.evaluate("() => document.documentElement.dataset.view") == "start"
    face.page.locator("main").evaluate(paste, carried)
    face.shown()
    assert face.keys[0] == shop.keys[40]
    # The browser's name for what has none is no name of a file.
    assert face.text("#asked-name") == "An image"


def test_a_paste_without_an_image_is_told(face):
    face.open()
    face.page.evaluate("() => dispatchEvent(new ClipboardEvent('paste', { clipboardData: new DataTransfer() }))")
    face.wait_for_notice("There is no image on the clipboard.")
    assert face.query == ""


def test_a_picture_of_the_camera_is_searched_by(face):
    face.open()
    face.page.get_by_role("button", name="Use the camera").first.click()
    face.page.wait_for_function("() => document.getElementById('camera-video').videoWidth > 0")
    face.page.get_by_role("button", name="Search by this picture").click()
    face.shown()
    assert len(face.keys) > 10
    assert "image=" in face.query


def test_a_click_searches_by_the_result_and_back_returns(face, shop):
    first, then = shop.keys[30], shop.nearest(shop.latent(shop.keys[30]))[5]
    face.open(f"?key={first}").shown()
    before = face.keys
    face.page.mouse.wheel(0, 500)
    face.page.wait_for_function("() => scrollY > 300")
    scrolled = face.page.evaluate("() => scrollY")
    # Not `click` of the locator, which would scroll.
    face.tile(then).locator(".open").dispatch_event("click")
    face.page.wait_for_function("(key) => document.getElementById('asked-name').textContent === key", arg=then)
    face.shown()
    assert f"key={then.replace('/', '%2F')}" in face.query
    assert then not in face.keys
    face.page.go_back()
    face.page.wait_for_function("(key) => document.getElementById('asked-name').textContent === key", arg=first)
    face.shown()
    assert face.keys[: len(before)] == before
    assert face.page.evaluate("() => scrollY") == scrolled
    face.page.go_forward()
    face.page.wait_for_function("(key) => document.getElementById('asked-name').textContent === key", arg=then)


def test_searching_by_key(face, shop):
    face.open()
    face.page.keyboard.press("/")
    face.page.keyboard.type(shop.keys[17])
    face.page.keyboard.press("Enter")
    face.shown()
    itself, *nearest = shop.nearest(shop.latent(shop.keys[17]))
    assert itself == shop.keys[17]
    assert face.keys[0] == nearest[0]
    face.page.locator("#asked-note", has_text="trainer").wait_for()
    face.open("?key=no such item").shown()
    assert face.text("#nothing") == "The index has no item with the key “no such item”."


def test_an_address_is_the_same_search_in_another_browser(face, open_face, service):
    face.open('?where={"label":{"in":["bag","boot"]}}')
    face.choose(encoded(PHOTO)).shown()
    other = open_face(service.address).open(face.query).shown()
    assert other.keys == face.keys
    assert len(other.page.query_selector_all("#chips li")) == 1
    # The image itself is there too.
    assert other.page.evaluate("() => document.getElementById('asked-image').decode().then(() => true)")
    assert other.page.evaluate("() => document.getElementById('asked-image').naturalWidth") == 400


def test_an_image_that_is_no_longer_kept_is_told(face):
    face.open(f"?image={'0' * 64}").shown()
    assert face.text("#nothing").startswith("This image is no longer kept")


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "large.jpg"), ("HEIC", "of a phone.heic")])
def test_a_part_is_cut_out_at_full_resolution_and_searched_by(kind, name, face, shop):
    """The right half of the image is an item. A browser that cannot show HEIC has the service's picture of it."""
    inside = Image.open(io.BytesIO(shop.files[shop.keys[65]])).resize((1000, 1500), Image.Resampling.NEAREST)
    whole = Image.new("RGB", (2000, 1500), "white")
    whole.paste(inside, (1000, 0))
    face.open().choose(heic(whole, quality=95) if kind == "HEIC" else encoded(whole, kind, quality=95), name).shown()
    digest = re.search("image=([0-9a-f]{64})", face.query)[1]
    face.page.locator("#asked-note", has_text="2000 × 1500 px").wait_for()
    face.page.get_by_role("button", name="Crop").click()
    face.page.wait_for_function("() => document.getElementById('crop-stage').style.width")
    stage = face.page.locator("#crop-stage").bounding_box()
    # Drawn from the middle of the upper edge to the lower right corner.
    corners = [
        (stage["x"] + stage["width"] / 2, stage["y"] + 1),
        (stage["x"] + stage["width"], stage["y"] + stage["height"]),
    ]
    draw(face.page, face.page.locator("#crop-box").bounding_box(), *corners)
    face.page.get_by_role("button", name="Search this part").click()
    face.page.wait_for_function("() => location.search.includes('whole=')")
    face.shown()
    assert face.keys[0] == shop.keys[65]
    assert f"whole={digest}" in face.query
    cut = face.page.evaluate(
        """async () => {
            const image = new Image();
            image.src = `/v1/uploads/${new URLSearchParams(location.search).get("image")}`;
            await image.decode();
            return [image.naturalWidth, image.naturalHeight];
        }"""
    )
    assert cut[0] in range(990, 1011)
    assert cut[1] in range(1480, 1501)
    face.page.get_by_role("button", name="Whole image").click()
    face.page.wait_for_function("(digest) => location.search === `?image=${digest}`", arg=digest)


def test_a_large_part_of_a_transparent_image_is_on_white(face):
    """It is sent as JPEG, which has no alpha; the model sees white behind what is transparent."""
    face.open().choose(encoded(Image.new("RGBA", (3000, 2000), (200, 0, 0, 0))), "empty.png").shown()
    face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#crop-box:focus").wait_for()
    for _ in range(20):
        face.page.keyboard.press("Shift+ArrowRight")
        face.page.keyboard.press("Shift+ArrowDown")
    face.page.get_by_role("button", name="Search this part").click()
    face.page.wait_for_function("() => location.search.includes('whole=')")
    face.shown()
    cut = face.page.evaluate(
        """async () => {
            const image = `/v1/uploads/${new URLSearchParams(location.search).get("image")}`;
            return Array.from(new Uint8Array(await (await fetch(image)).arrayBuffer()));
        }"""
    )
    with Image.open(io.BytesIO(bytes(cut))) as seen:
        assert seen.format == "JPEG" and seen.width * seen.height > 4e6
        assert np.asarray(seen).min() > 250


def test_going_back_closes_the_crop_and_what_it_was_for(face, shop):
    face.open(f"?key={shop.keys[1]}").shown()
    face.choose(shop.files[shop.keys[2]]).shown()
    face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#crop-box:focus").wait_for()
    face.page.go_back()
    face.page.locator("#crop").wait_for(state="hidden")
    face.page.wait_for_function("(key) => new URLSearchParams(location.search).get('key') === key", arg=shop.keys[1])
    face.shown()
    assert face.text("#asked-name") == shop.keys[1]


def test_a_picture_that_comes_late_is_not_cropped_once_the_user_has_moved_on(face, shop):
    held = []
    face.open(f"?key={shop.keys[1]}").shown()
    face.page.locator("#asked-image").wait_for()
    face.page.route("**/v1/thumbnail?key=*", lambda route: held.append(route))
    with face.page.expect_request("**/v1/thumbnail?key=*"):
        face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#key").fill(shop.keys[2])
    face.page.keyboard.press("Enter")
    face.page.wait_for_function("(key) => new URLSearchParams(location.search).get('key') === key", arg=shop.keys[2])
    face.shown()
    for route in held:
        route.continue_()
    face.page.wait_for_timeout(300)
    assert face.page.locator("#crop").is_hidden()


def draw(page, box, begin, end):
    """Move the rectangle's upper left corner, then its lower right one."""
    for corner, to in (((box["x"], box["y"]), begin), ((box["x"] + box["width"], box["y"] + box["height"]), end)):
        page.mouse.move(*corner)
        page.mouse.down()
        page.mouse.move(to[0], to[1], steps=4)
        page.mouse.up()


def test_an_upload_can_be_cancelled(face, model):
    face.open()
    model.delay_s = 3
    try:
        face.choose(encoded(PHOTO))
        # A switch would throw the upload away.
        face.page.wait_for_function("() => document.getElementById('options').inert")
        face.page.get_by_role("button", name="Cancel", exact=True).click()
        face.wait_for_notice("Cancelled. Nothing was searched.")
    finally:
        model.delay_s = 0
    assert face.query == ""
    assert face.page.locator(".drop").is_visible()
    assert not face.page.evaluate("() => document.getElementById('options').inert")


def test_what_is_no_image_is_told_and_the_search_of_before_stays(face, shop):
    face.open(f"?key={shop.keys[3]}").shown()
    before = face.keys
    face.choose(b"a text that is called an image", "text.png")
    face.wait_for_notice("This image cannot be searched by.")
    face.shown()
    assert face.keys == before
    assert face.text("#asked-name") == shop.keys[3]
