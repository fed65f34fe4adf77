"""One browser for each file, and one service on one index for all that leave it as it is."""

import os
import shutil

import pytest
from face import Face
from grid_model import GridModel
from shop import Shop
from web_service import WebService

BROWSER = os.environ.get("AE_SEARCH_CHROMIUM") or shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser():
    """A browser with a new profile; for one file, as its event loop would be in the way of other files' own."""
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("There is no chromium on PATH; .ci/run installs it.")
        pytest.skip("needs chromium on PATH, or AE_SEARCH_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=[*QUIET, *CAMERA])
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def model():
    served = GridModel()
    yield served
    served.stop()


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def service(shop, model, tmp_path_factory):
    running = WebService(shop.index, model, tmp_path_factory.mktemp("service"))
    yield running
    running.stop()


@pytest.fixture
def start_service(model, tmp_path):
    """Start a service for the test alone: `start_service(index, *options)`."""
    started = []

    def start(index, *options, model=model):
        folder = tmp_path / f"service{len(started)}"
        folder.mkdir()
        started.append(WebService(index, model, folder, *options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def open_face(browser):
    """Open the page in a context of its own: `open_face(address, **options of the context)`."""
    contexts = []

    def face(address, **options):
        options.setdefault("viewport", {"width": 1280, "height": 800})
        contexts.append(browser.new_context(**options))
        opened = Face(contexts[-1].new_page(), address)
        faces.append(opened)
        return opened

    faces = []
    yield face
    for context in contexts:
        context.close()
    assert [fault for one in faces for fault in one.faults] == []


@pytest.fixture
def face(open_face, service):
    """The page on the shop's index."""
    return open_face(service.address)
