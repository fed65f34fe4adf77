"""Take the pictures of the page that the documentation shows, of a service that runs on photographs.

usage: python tools/web_pictures.py ADDRESS PHOTO [--to docs/pictures]

Needs chromium on PATH. PHOTO is what is searched by.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

DESK, PHONE = (1440, 900), (390, 844)
SCHEMES = ("light", "dark")
MOST_BYTES = 250_000
OVER = "() => !document.querySelector('.coming') && document.getElementById('sending').hidden"
PAINTED = (
    "() => Promise.all([...document.images].filter((one) => one.getBoundingClientRect().top < innerHeight * 1.5)"
    ".map((one) => one.decode().catch(() => null)))"
)


def search(page: Page, address: str, photo: Path) -> None:
    """Search by a photograph, and wait until what is found is painted."""
    page.goto(address)
    page.wait_for_function(OVER)
    page.set_input_files("#file", photo)
    page.wait_for_function("() => location.search.includes('image=')")
    page.wait_for_function(OVER)
    page.evaluate(PAINTED)


def mark(page: Page) -> None:
    """Mark some results."""
    for at, words in ((1, "More like this"), (3, "More like this"), (8, "Less like this")):
        tile = page.locator("#grid .tile").nth(at)
        tile.hover()
        tile.get_by_role("button", name=words).click()
    page.mouse.move(5, 400)


def write(page: Page, path: Path) -> None:
    """Write what is seen as WebP."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.save(path, "WEBP", quality=82, method=6)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path} has {size} bytes"
    print(f"{path}: {size} bytes")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--to", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in SCHEMES:
            for name, (width, height) in (("search", DESK), ("phone", PHONE)):
                context = browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                    device_scale_factor=2 if name == "phone" else 1,
                    has_touch=name == "phone",
                )
                page = context.new_page()
                search(page, given.address, given.photo)
                if name == "search":
                    mark(page)
                write(page, given.to / f"web-{name}-{scheme}.webp")
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
