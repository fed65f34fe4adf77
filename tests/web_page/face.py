"""The page in a browser, by what people see and do."""

import base64
import re
from urllib.parse import quote_plus

TILES = "#grid .tile:not(.coming)"
WAIT_MS = 30_000


class Face:
    """A page and what it was found to do wrong.

    Attributes:
        page: Playwright's page.
        faults: Errors of scripts, what the Content-Security-Policy refused, and requests to other hosts.
    """

    def __init__(self, page, address):
        self.page, self.address, self.faults = page, address, []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._heard)
        page.on("request", self._asked)

    def _heard(self, message):
        if re.search("Content.Security.Policy|Refused to|Permissions.policy", message.text):
            self.faults.append(message.text)

    def _asked(self, request):
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.faults.append(f"asked {request.url}")

    def open(self, query=""):
        self.page.goto(f"{self.address}/{query}")
        return self

    def shown(self):
        """Wait until a search is over."""
        self.page.wait_for_function(
            "() => !document.querySelector('#grid .coming') && document.getElementById('sending').hidden"
            " && !['Searching…', '\\u00a0'].includes(document.getElementById('found-title').textContent)"
        )
        return self

    @property
    def keys(self):
        """The keys of the results that are shown."""
        return self.page.eval_on_selector_all(TILES, "tiles => tiles.map((tile) => tile.item.key)")

    @property
    def query(self):
        """What the address holds after its question mark."""
        return self.page.evaluate("() => location.search")

    def text(self, selector):
        return self.page.locator(selector).inner_text()

    def tile(self, key):
        return self.page.locator(TILES, has=self.page.locator(f".open[href*='key={quote_plus(key)}']"))

    def choose(self, data, name="photo.png"):
        """Choose a file as by its dialog."""
        files = {"name": name, "mimeType": "image/png", "buffer": data}
        self.page.set_input_files("#file", files)
        return self

    def carried(self, data, name="photo.png"):
        """Return a handle of what a drop or a paste of a file carries."""
        return self.page.evaluate_handle(
            """([data, name]) => {
                const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
                const carried = new DataTransfer();
                carried.items.add(new File([bytes], name, { type: "image/png" }));
                return carried;
            }""",
            [base64.b64encode(data).decode(), name],
        )

    def drop(self, data, name="photo.png"):
        carried = self.carried(data, name)
        for kind in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event("main", kind, {"dataTransfer": carried})
        return self

    def wait_for_notice(self, words):
        self.page.locator(".notice", has_text=words).first.wait_for()
        return self
