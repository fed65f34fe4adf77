"""A service that can say why, by its contract with the page: its model decodes, and what it says of one query is fixed.

It serves the page's own files, so that the part of the page is tested wherever no model with a decoder is.
"""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
from pictures import coloured_picture, encoded
from PIL import Image

from ae_search.web.gate import SECURITY_HEADERS
from ae_search.web.pages import page_files

MODEL = {"name": "grid", "version": 1, "fingerprint": "ab" * 32}
FEATURES = dict.fromkeys(("views", "uploads", "fold", "explain", "distrust"), True) | {
    "originals": False,
    "write": False,
}
INDEX = {
    "items": 3,
    "model": MODEL,
    "recall": 0.99,
    "features": FEATURES,
    "limits": {"body_bytes": 1 << 20, "k": 1000},
    "command": {"index": None, "server": None, "model": None},
}
SHARE = {"familiar": False, "distance": 0.9, "distance_share": 0.999}


def png(picture):
    return base64.b64encode(encoded(picture)).decode()


def grey(values):
    return png(Image.fromarray(np.asarray(values, np.uint8)))


def explanation(asked):
    """Agreement is -1, 0 and 1 from left to right."""
    walk = [png(coloured_picture(seed, (16, 16))) for seed in range(asked["steps"])]
    return {
        "key": asked["with"],
        "similarity": 0.75,
        "query": walk[0],
        "item": walk[-1],
        "agreement": grey([[0, 128, 255]] * 3),
        "parts": [{"dimension": at, "contribution": 0.3 - at / 10, "where": grey(np.eye(4) * 255)} for at in (0, 1, 7)],
        "rest": 0.05,
        "walk": walk,
    }


def neighbour(number):
    key = f"item {number}"
    return {
        "rank": number,
        "key": key,
        "label": None,
        "similarity": 0.8,
        "distance": 0.2,
        "metadata": {},
        "thumbnail": None,
    }


def answer(path, body):
    if path == "/v1/explain":
        return explanation(json.loads(body))
    found = {"neighbours": [neighbour(1), neighbour(2)], "next": None, "more": False, "took_ms": 1.0}
    return {
        "/v1/index": INDEX,
        "/v1/session": {"read": True, "write": False, "read_key": False, "write_key": False},
        "/v1/labels": {"labels": [], "items": 3},
        "/v1/fields": {"fields": []},
        "/v1/items": {"items": [], "next": None},
        "/v1/search": {
            **found,
            "query": {"image": "0" * 64},
            "model": MODEL,
            "plain": False,
            "verdict": None,
            "trust": SHARE,
        },
    }.get(path)


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        file = page_files().get("index.html" if path == "/" else path.rpartition("/")[2])
        told = answer(path, body)
        if told is not None:
            self._send(200, "application/json", json.dumps(told).encode())
        elif file is not None:
            self._send(200, file.media_type, file.content)
        else:
            self._send(404, "application/problem+json", b'{"code": "NotFound", "detail": "not there"}')

    do_POST = do_GET

    def _send(self, status, media_type, content):
        self.send_response(status)
        for name, value in SECURITY_HEADERS:
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def explaining():
    """Yield the address of a service that runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
