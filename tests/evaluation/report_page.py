"""A written report, read as a browser reads it, and what holds of every one."""

import re
from html.parser import HTMLParser

from ae_search.evaluation.report import write_report

VOID = {"img", "meta", "br", "col"}


class Page(HTMLParser):
    """A page's elements, texts, and the tags that are not closed as they were opened."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.faults, self.open, self.texts, self.by_tag = [], [], [], [], {}
        self.feed(html)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        if len(attrs) != len(dict(attrs)):
            self.faults.append(f"{tag} has an attribute twice")
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)
            if self.open:
                self.by_tag.setdefault(self.open[-1], []).append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def written(made, folder):
    """Write a report into a folder, check it and return the page."""
    path = write_report(made, folder / "report.html")
    page = Page(path.read_text(encoding="utf-8"))
    check(page)
    return page


def check(page):
    """What holds of every report."""
    assert page.faults == []
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            if name in attributes:
                assert re.match(r"#|data:image/jpeg;base64,", attributes[name]), (tag, attributes[name][:80])
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in page.all("svg"))
    assert all("scope" in attributes for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"] for a in page.all("a")} <= {f"#{one}" for one in ids}


def sections(page):
    return [attributes["id"] for attributes in page.all("section")]
