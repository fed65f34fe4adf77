"""The page by keyboard alone, for screen readers, dark and light, narrow and wide, and without anything that jumps."""

import gzip
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

PAGE = Path(__file__).parents[2] / "ae_search" / "web" / "page"
NARROW, PHONE, WIDE = {"width": 320, "height": 640}, {"width": 390, "height": 844}, {"width": 1280, "height": 800}


def serious(page):
    """What axe finds that is serious."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:160] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def focused(face):
    return face.page.evaluate("() => document.activeElement.closest('.tile')?.item?.key ?? document.activeElement.id")


def press_tab_until(face, wanted):
    for _ in range(60):
        face.page.keyboard.press("Tab")
        if wanted(focused(face)):
            return
    raise AssertionError(f"Tab does not lead there, but to {focused(face)!r}")


def test_by_keyboard_alone(face, shop):
    face.open()
    face.page.keyboard.press("/")
    assert focused(face) == "key"
    face.page.keyboard.type(shop.keys[0])
    face.page.keyboard.press("Enter")
    face.shown()
    keys = face.keys
    press_tab_until(face, lambda place: place == keys[0])
    columns = face.page.evaluate(
        "() => getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length"
    )
    for press, at in (
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowLeft", columns),
        ("ArrowUp", 0),
        ("End", -1),
        ("Home", 0),
    ):
        face.page.keyboard.press(press)
        assert focused(face) == keys[at], press
    ring = face.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"
    face.page.keyboard.press("+")
    face.page.keyboard.press("ArrowRight")
    face.page.keyboard.press("-")
    assert face.page.locator("#marked li").count() == 2
    face.page.keyboard.press("s")
    face.page.wait_for_function("() => location.search.includes('unlike=')")
    face.shown()
    assert focused(face) == face.keys[0]
    chosen = face.keys[0]
    face.page.keyboard.press("Enter")
    face.page.wait_for_function("(key) => document.getElementById('asked-name').textContent === key", arg=chosen)
    face.shown()
    assert "like=" not in face.query


def test_escape_leaves_what_is_open(face, shop):
    face.open(f"?key={shop.keys[0]}").shown()
    face.page.keyboard.press("/")
    face.page.keyboard.press("Escape")
    assert focused(face) == ""
    copy = face.page.get_by_role("button", name="Copy", exact=True)
    copy.click()
    assert face.page.locator("#copy-menu").is_visible()
    face.page.keyboard.press("Escape")
    assert not face.page.locator("#copy-menu").is_visible()
    face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#crop-box:focus").wait_for()
    face.page.keyboard.press("Escape")
    assert not face.page.locator("#crop").is_visible()
    assert face.query == f"?key={shop.keys[0]}"


def test_the_crop_by_keyboard(face, shop):
    face.open(f"?key={shop.keys[0]}").shown()
    face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#crop-box:focus").wait_for()
    before = face.text("#crop-words")
    for press in ("ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
        face.page.keyboard.press(press)
    assert before == "70 × 70 %, 15 % from the left, 15 % from the top"
    assert face.text("#crop-words") == "72 × 68 %, 17 % from the left, 17 % from the top"
    face.page.keyboard.press("Enter")
    face.page.wait_for_function("() => location.search.includes('crop=0.17%2C0.17%2C0.72%2C0.68')")


@pytest.mark.parametrize(("scheme", "viewport"), [("light", NARROW), ("dark", WIDE)], ids=["light", "dark"])
def test_axe_finds_nothing_serious(open_face, service, shop, scheme, viewport):
    face = open_face(service.address, color_scheme=scheme, viewport=viewport).open()
    face.page.wait_for_function("() => !document.querySelector('#examples .coming')")
    assert serious(face.page) == []
    face.open(f'?key={shop.keys[0]}&like={shop.keys[5]}&where={{"shop":"north"}}').shown()
    if viewport is NARROW:
        face.page.locator("#options-open").click()
    assert serious(face.page) == []
    face.page.get_by_role("button", name="Crop").click()
    face.page.locator("#crop-box:focus").wait_for()
    assert serious(face.page) == []


def test_dark_and_light_follow_the_system(open_face, service):
    grounds = []
    for scheme in ("light", "dark"):
        face = open_face(service.address, color_scheme=scheme).open()
        grounds.append(face.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    light, dark = (sum(map(int, ground.strip("rgb()").split(","))) for ground in grounds)
    assert dark < 100 < 700 < light


@pytest.mark.parametrize("width", [320, 3840])
def test_nothing_is_wider_than_the_page(open_face, service, shop, width):
    face = open_face(service.address, viewport={"width": width, "height": 900}).open(f"?key={shop.keys[0]}").shown()
    assert face.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    tiles = face.page.evaluate(
        "() => getComputedStyle(document.getElementById('grid')).gridTemplateColumns.split(' ').length"
    )
    assert tiles in {320: range(2, 4), 3840: range(10, 30)}[width]


def test_nothing_moves_where_people_want_less_motion(open_face, service, shop):
    face = open_face(service.address, reduced_motion="reduce").open(f"?key={shop.keys[0]}").shown()
    moving = face.page.evaluate("() => document.getAnimations().length")
    assert moving == 0


SHIFTS = """() => {
    window.shifted = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((one) => { window.shifted += one.value; }))
        .observe({ type: "layout-shift", buffered: true });
}"""


@pytest.mark.parametrize(
    ("query", "viewport"),
    [("", PHONE), ("?key=bag/000.png", PHONE), ("?key=bag/000.png", WIDE)],
    ids=["start", "phone", "desk"],
)
def test_the_first_paint_does_not_shift(open_face, service, query, viewport):
    face = open_face(service.address, viewport=viewport).open(query)
    if query:
        face.shown()
    else:
        face.page.wait_for_function("() => !document.querySelector('#examples .coming')")
    face.page.evaluate(SHIFTS)
    face.page.wait_for_timeout(300)
    assert face.page.evaluate("() => window.shifted") < 0.02


def test_the_page_is_small():
    """As the service sends it: packed."""
    files = [file for file in PAGE.iterdir() if file.is_file()]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= 50 * 1024
