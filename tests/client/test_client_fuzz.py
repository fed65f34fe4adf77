"""Whatever bytes a server answers, the client gives a right result or an error of ours, soon and in little memory."""

import random
import resource
import time

import answers
import numpy as np
import pytest
from answers import CARD, card_answer, good_answer, latents_answer, status_answer

from ae_search.client import ModelMetadata, TensorSpec, VersionState, predicting, wire
from ae_search.client.conversation import ModelTalk
from ae_search.client.rpc_errors import Asked
from ae_search.client.steps import Ask, AskEach, Pause, Send, Step, Work
from ae_search.contract import ModelCard
from ae_search.errors import AeSearchError, ServerError

ROUNDS = 10_000
OVER_SOCKETS = 300
ROWS = 3
PIXELS = np.arange(ROWS * 16, dtype=np.uint8).reshape(ROWS, 4, 4, 1)
LATENTS = PIXELS.reshape(ROWS, 16).astype(np.float32) / 255


def forged(edit, data, message=wire.PredictResponse):
    response = message.FromString(data)
    edit(response)
    return response.SerializeToString()


def sizes(*numbers):
    def edit(response):
        del response.outputs["latents"].tensor_shape.dim[:]
        for size in numbers:
            response.outputs["latents"].tensor_shape.dim.add(size=size)

    return edit


def dtype(number):
    return lambda response: setattr(next(iter(response.outputs.values())), "dtype", number)


def metadata_answer():
    signatures = wire.SignatureDefMap()
    one = signatures.signature_def["serving_default"].inputs["images"]
    one.dtype = 1
    one.tensor_shape.dim.add(size=-1)
    response = wire.GetModelMetadataResponse()
    response.model_spec.version.value = 3
    response.metadata["signature_def"].Pack(signatures)
    return response.SerializeToString()


def strings(response):
    response.outputs["model_card"].string_val.append(b"x" * 100)


def unknown_rank(response):
    response.outputs["latents"].tensor_shape.unknown_rank = True


VALUES, CONTENT = latents_answer(LATENTS), latents_answer(LATENTS, as_content=True)
STARTS = [
    VALUES,
    CONTENT,
    card_answer(),
    card_answer(version=0),
    status_answer(),
    metadata_answer(),
    *(card_answer(text) for text in (b"", b"null", b"{}", b"[" * 9999, b'{"format":1e999}', b"\xff", b'"\\ud800"')),
    *(forged(sizes(*shape), VALUES) for shape in ([2**62, 16], [-1, 16], [0, 2**62], [2**31, 2**33], [], [48])),
    *(forged(sizes(*[2**62] * rank), CONTENT) for rank in (7, 65, 5000)),
    *(forged(dtype(number), data) for number in (0, 2, 7, 23, 101) for data in (VALUES, card_answer())),
    forged(strings, card_answer()),
    forged(unknown_rank, VALUES),
]
VARINTS = [b"\xff" * 9 + b"\x01", b"\xff" * 5 + b"\x07", b"\x80" * 20, b"\x80\x80\x80\x80\x10", b"\xff" * 10]


def mutated(chance):
    """Random bytes, or a good or forged answer that is changed in some places."""
    kind = chance.random()
    if kind < 0.15:
        return chance.randbytes(chance.choice([0, 1, 5, 50, 500]))
    data = bytearray(chance.choice(STARTS))
    if kind < 0.3:
        return bytes(data[: chance.randrange(len(data) + 1)])
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        at = chance.randrange(len(data) + 1)
        change = chance.randrange(5)
        if change == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[at : at + chance.randrange(8)] = chance.randbytes(chance.randrange(8))
        elif change == 2:
            data[at:at] = chance.choice(VARINTS)
        elif change == 3:
            other = chance.choice(STARTS)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            data += chance.choice(STARTS)  # fields may come twice; the last one counts, or both
    return bytes(data)


def carried_out(conversation, answer):
    """Carry a conversation out without sockets; answer each request."""
    under_way, given = [], None
    try:
        while True:
            step, given = conversation.send(given), None
            if isinstance(step, Send):
                under_way.append(step.request)
            elif isinstance(step, Ask):
                given = answer(step.request)
            elif isinstance(step, AskEach):
                given = [answer(step.request), answer(step.request)]
            elif isinstance(step, Work):
                given = step.run()
            elif step is Step.TAKE:
                given = answer(under_way.pop(0))
            elif not isinstance(step, Pause):
                under_way.clear()
    except StopIteration as done:
        return done.value


def check(verb, result):
    """A result that was let through is one of the right kind and form."""
    if verb == "describe":
        assert type(result) is ModelCard and type(result.version) is int and 1 <= result.version < 2**63
        assert result.name and result.latent_dim >= 1
    elif verb == "status":
        assert all(type(one) is VersionState for one in result)
    elif verb == "metadata":
        assert type(result) is ModelMetadata and type(result.version) is int
        assert all(type(one) is TensorSpec for each in result.signatures.values() for one in each.inputs.values())
    elif verb == "predict":
        assert all(type(one) is np.ndarray and one.nbytes < 2**27 for one in result.values())
    else:
        assert result.shape == (ROWS, 16) and result.dtype == np.float32 and np.isfinite(result).all()


VERBS = {
    "describe": lambda one: one.describe(),
    "status": lambda one: one.status(),
    "encode": lambda one: one.encode(PIXELS),
    "predict": lambda one: predicting.predict(one.asked, {"images": PIXELS}, "serving_default", None),
    "metadata": lambda one: predicting.metadata(one.asked),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("pinned", [3, None])
def test_random_answers_give_errors_of_ours_or_right_results(verb, pinned):
    chance = random.Random(f"{verb} {pinned}")
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    results = errors = 0
    for _ in range(ROUNDS):
        data = mutated(chance)

        def answer(request, data=data):
            if verb == "encode" and chance.random() < 0.8 and b"describe" in request.message:
                return card_answer()
            return data

        talk = ModelTalk(Asked("fuzz", "pixels", pinned))
        try:
            result = carried_out(VERBS[verb](talk), answer)
        except AeSearchError as error:
            assert verb == "encode" or isinstance(error, ServerError)
            assert len(str(error)) < 2000
            errors += 1
        else:
            check(verb, result)
            results += 1
    assert errors > ROUNDS / 10 and results > ROUNDS / 200  # both sides were met
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert time.monotonic() - began < 60


def test_the_fuzzer_knows_good_answers():
    """Without any change, the same conversations end well."""
    talk = ModelTalk(Asked("fuzz", "pixels"))
    answer = lambda request: good_answer(request.method, request.message)  # noqa: E731
    assert carried_out(talk.describe(), answer) == CARD
    np.testing.assert_array_equal(carried_out(talk.encode(PIXELS), answer), LATENTS)
    assert carried_out(talk.status(), answer)[0] == VersionState(3, "AVAILABLE")


def test_random_answers_over_sockets(connect):
    chance, lie = random.Random(7), [b""]
    server, port = answers.start(lambda method, data: lie[0])
    client = connect(port)
    calls = {"describe": client.describe, "status": client.status, "encode": lambda: client.encode(PIXELS)}
    try:
        for at in range(OVER_SOCKETS):
            lie[0] = mutated(chance)
            verb = list(calls)[at % 3]
            try:
                check(verb, calls[verb]())
            except AeSearchError:
                pass
        server.stop(None).wait()
        server, port = answers.start(good_answer, f"127.0.0.1:{port}")
        np.testing.assert_array_equal(client.encode(PIXELS), LATENTS)  # nothing stuck in the client
    finally:
        server.stop(None).wait()
