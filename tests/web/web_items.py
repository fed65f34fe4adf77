"""The items of the tests' index, and neighbours as the service tells them."""

from pictures import coloured_picture, encoded

COUNT = 120
PNG = {"content-type": "image/png"}


def picture(at):
    return encoded(coloured_picture(at, (24, 20)))


def key(at):
    return f"photos/../{at} ä&b.png" if at == 7 else f"photos/{at}.png"


def label(at):
    return ("bag", "boot", None)[at % 3]


def metadata(at):
    return {"price": at, "colour": "red" if at % 2 else "blue"} if at % 4 else None


def told(found):
    """Return neighbours of Python's as the service tells them."""
    fields = ("rank", "key", "label", "similarity", "distance", "metadata")
    return [{name: getattr(one, name) for name in fields} for one in found]
