"""The clients for asyncio behind the verbs of the blocking ones, so that one test is about both."""

import asyncio
import copy
import threading

from ae_search.client import AsyncLatentClient, AsyncPredictClient, LatentClient, PredictClient


class OnEventLoop:
    """A client for asyncio on the event loop of a thread of its own."""

    kind = AsyncLatentClient

    def __init__(self, *args, **options):
        self._begin(self.kind(*args, **options))

    def _begin(self, client):
        self.client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def target(self):
        return self.client.target

    def describe(self):
        return self._run(self.client.describe())

    def status(self):
        return self._run(self.client.status())

    def predict(self, *args, **options):
        return self._run(self.client.predict(*args, **options))

    def metadata(self):
        return self._run(self.client.metadata())

    def encode(self, images):
        return self._run(self.client.encode(images))

    def encode_files(self, files, *, on_bad=None):
        return self._run(self.client.encode_files(files, on_bad=on_bad))

    def decode(self, latents):
        return self._run(self.client.decode(latents))

    @property
    def version(self):
        return self.client.version

    def __getstate__(self):
        return copy.copy(self.client)

    def __setstate__(self, client):
        self._begin(client)

    def at_version(self, version):
        pinned = object.__new__(type(self))
        vars(pinned).update(vars(self), client=self.client.at_version(version))
        return pinned

    def close(self):
        """Close the client; its loop goes on, so that what is under way can end."""
        self._run(self.client.close())

    def end(self):
        self.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Blocking(LatentClient):
    def end(self):
        self.close()


class PredictOnEventLoop(OnEventLoop):
    kind = AsyncPredictClient


class BlockingPredict(PredictClient):
    def end(self):
        self.close()


KINDS = {"blocking": Blocking, "asyncio": OnEventLoop}
PREDICT_KINDS = {"blocking": BlockingPredict, "asyncio": PredictOnEventLoop}
