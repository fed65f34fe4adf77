"""A real service on this machine: uvicorn in a thread of this process, on a free port."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
import uvicorn

from ae_search.web import Doors, ServiceOptions, UploadOptions
from ae_search.web.encoders import ThreadedEncoder
from ae_search.web.running import _config, _listening


@contextmanager
def running(options: ServiceOptions, **client):
    """Yield an HTTP client of a service that runs with these options."""
    options = replace(options, doors=replace(options.doors, port=0))
    with _listening(options.doors) as listener:
        server = uvicorn.Server(_config(options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        scheme = "http" if options.doors.certificate is None else "https"
        try:
            address = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, timeout=60, **client) as http:
                yield http
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True)
class Own:
    """An encoder of our own in the process: an `EncoderOptions`."""

    encoder: object

    def for_loop(self):
        return ThreadedEncoder(self.encoder, ThreadPoolExecutor(1))

    def blocking(self):
        return self.encoder


def options_of(place, encoder, uploads, *, doors=None, **others):
    """Return options of a service that keeps uploads."""

    return ServiceOptions(
        str(place),
        encoder,
        doors=doors or Doors(),
        uploads=UploadOptions(uploads, **others.pop("keeping", {})),
        **others,
    )


def at_once(address, requests, **client):
    """Send requests all at the same time; return the responses, or what kept them from coming, in order."""

    async def send():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits, **client) as http:
            return await asyncio.gather(*(http.request(**one) for one in requests), return_exceptions=True)

    return asyncio.run(send())
