"""A scripted server that joins requests for files as TensorFlow Serving does: one undecodable file fails them all."""

import threading
import time

import grpc
from scripted_server import Script

JOIN_S = 0.02
TEXT = "Unknown image file format. One of JPEG, PNG, GIF, BMP required."


class Run:
    """Requests that are answered alike, once the time to join them is over."""

    def __init__(self):
        self.until = time.monotonic() + JOIN_S
        self.is_bad = False


class Joining(Script):
    """Refuses all that came within one window for one file of those in `undecodable`, or any that is `damaged`."""

    def __init__(self, damaged=()):
        super().__init__()
        self.damaged = set(damaged)
        self.code, self.text = None, TEXT
        self._joining, self._run = threading.Lock(), None

    def answer(self, request, context):
        files = [value for tensor in request.inputs.values() for value in tensor.string_val]
        if files:
            self.share(context, any(file in self.damaged for file in files))
        return super().answer(request, context)

    def share(self, context, is_bad):
        """Wait for others; abort if one of the requests of the run is bad."""
        with self._joining:
            if self._run is None or time.monotonic() > self._run.until:
                self._run = Run()
            run = self._run
            run.is_bad |= is_bad
        time.sleep(max(0.0, run.until - time.monotonic()) + 0.002)
        if run.is_bad:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.text)


class Loop:
    """Another client that sends one request again and again."""

    def __init__(self, target, message, pause_s=0.0):
        self._over = threading.Event()

        def send():
            with grpc.insecure_channel(target) as channel:
                method = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
                while not self._over.wait(pause_s):
                    try:
                        method(message, timeout=20)
                    except grpc.RpcError:
                        pass

        self._thread = threading.Thread(target=send)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
