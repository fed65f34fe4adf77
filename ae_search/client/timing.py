"""How long the parts of one call take."""

import time

from ae_search.client.latent_client import LatentClient
from ae_search.client.steps import Send, Step
from ae_search.contract import Latents


def timed_encode_file(client: LatentClient, data: bytes) -> tuple[Latents, tuple[float, float, float]]:
    """Return the latents `[1, d]` of an image file, and the seconds for request, network and server, and answer.

    Args:
        client: It knows the model card already; otherwise that is asked for, and counted, too.
        data: The file.

    Raises:
        ImageError: It cannot be decoded.
        ServerError: As for `LatentClient.encode_files`.
    """
    spent = [0.0, 0.0, 0.0]
    conversation = client.talk.encode_files([data], None)
    part, answer = 0, None
    while True:
        began = time.perf_counter()
        try:
            step = conversation.send(answer)
        except StopIteration as done:
            spent[2] += time.perf_counter() - began
            return done.value, (spent[0], spent[1], spent[2])
        spent[part] += time.perf_counter() - began
        answer = None
        if step is Step.DROP:  # the version was rolled over meanwhile; the call starts anew
            continue
        if isinstance(step, Send | Step):
            raise AssertionError(f"one file takes one request, not {step}")
        began = time.perf_counter()
        answer = client.line.answer(step)
        spent[1] += time.perf_counter() - began
