"""Requests that run together: what they answer, which are joined, and what is refused."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf

from ae_search.errors import ConfigurationError
from ae_search.model_server import Batching, ModelServer
from ae_search.model_server.batching import Batcher
from ae_search.model_server.refusal import RequestRefused

C = grpc.StatusCode
DEADLINE_S = 60
SIGNATURE = "serving_default"
SOON_MICROS = 20_000
# Long enough for a test to fail if it is ever waited for.
NEVER_MICROS = 600_000_000


class Doubling:
    """Stands for a loaded version: doubles `x`, when it is let; notes the rows of each run."""

    def __init__(self):
        self.runs = []
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def execute(self, signature, inputs):
        self.runs.append(len(inputs["x"]))
        self.entered.release()
        assert self.open.wait(30)
        if (inputs["x"] < 0).any():
            raise RequestRefused(C.INVALID_ARGUMENT, "negative")
        return {"y": 2 * inputs["x"]}


class Bench:
    """A batcher, a version that waits to be let, and requests to it."""

    def __init__(self, executor, **options):
        self.rows = []
        self.doubling = Doubling()
        self.batcher = Batcher(Batching(**options), executor, on_run=self.rows.append)

    def ask(self, *values, signature=SIGNATURE, width=1):
        """Send one request of a row for each value; return its task."""
        inputs = {"x": np.repeat(np.array(values, np.float32)[:, None], width, 1)}
        return asyncio.ensure_future(self.batcher.run(self.doubling, signature, inputs))

    async def occupied(self):
        """Send a first request, and return its task when it runs: what comes now is gathered."""
        first = self.ask(0)
        await asyncio.sleep(0)
        await asyncio.to_thread(self.doubling.entered.acquire)
        return first


@pytest.fixture
def executor():
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def bench(executor):
    return lambda **options: Bench(executor, **{"batch_timeout_micros": SOON_MICROS, **options})


def values(outputs):
    return outputs["y"][:, 0].tolist()


def test_what_arrives_during_a_run_is_one_run(bench):
    async def scene():
        one = bench()
        first = await one.occupied()
        others = [one.ask(*range(1, rows + 1)) for rows in (1, 3, 2)]
        await asyncio.sleep(0)
        one.doubling.open.set()
        assert [values(await task) for task in (first, *others)] == [[0], [2], [2, 4, 6], [2, 4]]
        assert one.doubling.runs == one.rows == [1, 6]

    asyncio.run(scene())


def test_a_run_is_never_larger_than_allowed_and_keeps_the_order(bench):
    async def scene():
        one = bench(max_batch_size=4, max_enqueued_batches=100)
        first = await one.occupied()
        others = [one.ask(*[number] * (1 + number % 4)) for number in range(40)]
        await asyncio.sleep(0)
        one.doubling.open.set()
        answers = await asyncio.gather(first, *others)
        assert [values(answer) for answer in answers[1:]] == [[2 * n] * (1 + n % 4) for n in range(40)]
        assert max(one.doubling.runs) <= 4
        assert sum(one.doubling.runs) == 1 + sum(1 + n % 4 for n in range(40))

    asyncio.run(scene())


def test_signatures_are_not_mixed(bench):
    async def scene():
        one = bench()
        first = await one.occupied()
        same, other, same_too = one.ask(1), one.ask(4, signature="other"), one.ask(3)
        await asyncio.sleep(0)
        one.doubling.open.set()
        answers = await asyncio.gather(first, same, other, same_too)
        assert [values(answer) for answer in answers] == [[0], [2], [8], [6]]
        assert sorted(one.doubling.runs) == [1, 1, 2]

    asyncio.run(scene())


async def refused_together(one, first, tasks):
    """Let the runs go on; the code and the text that all of the tasks are refused with."""
    await asyncio.sleep(0)
    one.doubling.open.set()
    await first
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    [told] = {(outcome.code, outcome.text) for outcome in outcomes}
    return told


def test_a_bad_request_fails_all_that_were_joined_with_it_and_none_after_them(bench):
    async def scene():
        one = bench()
        first = await one.occupied()
        told = await refused_together(one, first, [one.ask(1), one.ask(2, -2), one.ask(3)])
        assert told == (C.INVALID_ARGUMENT, "negative")
        assert one.doubling.runs == [1, 4]
        assert values(await one.ask(1)) == [2]

    asyncio.run(scene())


def test_another_shape_fails_all_that_were_joined_with_it(bench):
    async def scene():
        one = bench()
        first = await one.occupied()
        code, text = await refused_together(one, first, [one.ask(1), one.ask(2, width=3), one.ask(3)])
        assert code == C.FAILED_PRECONDITION
        assert text.startswith("Tensors with name 'x' from different tasks have different shapes")
        assert one.doubling.runs == [1]

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (lambda x: np.float32(x.sum()), "Batched output tensor has 0 dimensions"),
        (lambda x: x[:1], "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes"),
    ],
    ids=["a number", "too few rows"],
)
def test_outputs_that_are_no_rows_fail_all(bench, output, told):
    async def scene():
        one = bench()
        first = await one.occupied()
        one.doubling.execute = lambda _, inputs: {"y": output(inputs["x"])}
        code, text = await refused_together(one, first, [one.ask(1, 2), one.ask(3)])
        assert code == C.FAILED_PRECONDITION and text.startswith(told)

    asyncio.run(scene())


def test_a_full_queue_refuses_and_takes_again(bench):
    async def scene():
        one = bench(max_batch_size=2, max_enqueued_batches=2)
        running = [await one.occupied()]
        waiting = [one.ask(number) for number in range(12)]
        await asyncio.sleep(0)
        refused = [task for task in waiting if task.done()]
        for task in refused:
            assert task.exception().code == C.UNAVAILABLE
            assert task.exception().text == "The batch scheduling queue to which this task was submitted is full"
        # Four rows may wait, and two more for each full batch that another core has taken already.
        assert 4 <= len(waiting) - len(refused) < 12
        one.doubling.open.set()
        await asyncio.gather(*running, *(task for task in waiting if task not in refused))
        assert values(await one.ask(7)) == [14]

    asyncio.run(scene())


def test_waiting_files_are_bounded_by_their_bytes(bench):
    async def scene():
        one = bench()
        one.doubling.execute = lambda _, inputs: (one.doubling.open.wait(30), {"y": np.ones((len(inputs["x"]), 1))})[1]
        one.doubling.entered.release()
        file = np.array([bytes(2**26)], object)
        ask = lambda: asyncio.ensure_future(one.batcher.run(one.doubling, SIGNATURE, {"x": file}))  # noqa: E731
        running = await one.occupied()
        waiting = [ask() for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(RequestRefused, match="queue to which this task was submitted is full") as caught:
            await ask()
        assert caught.value.code == C.UNAVAILABLE
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(ask())
        await asyncio.sleep(0)
        one.doubling.open.set()
        await asyncio.gather(running, *waiting)
        await ask()

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_whatever_fails_is_told_to_all_who_wait(executor):
    """And the queue goes on."""

    async def scene():
        one = Bench(executor, batch_timeout_micros=SOON_MICROS)
        one.batcher = Batcher(Batching(), executor, on_run=lambda rows: [][rows])
        one.doubling.open.set()
        for _ in range(2):
            outcomes = await asyncio.gather(*(one.ask(number) for number in range(3)), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [IndexError] * 3

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_an_executor_that_was_shut_down(bench, executor):
    async def scene():
        one = bench()
        executor.shutdown()
        outcomes = await asyncio.gather(*(one.ask(1) for n in range(2000)), return_exceptions=True)
        assert {(outcome.code, outcome.text) for outcome in outcomes} == {(C.UNAVAILABLE, "The server is stopping")}

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_more_rows_than_a_run_may_have(bench):
    async def scene():
        one = bench(max_batch_size=4)
        with pytest.raises(RequestRefused, match=r"^Task size 5 is larger than maximum input batch size 4$") as caught:
            await one.ask(1, 2, 3, 4, 5)
        assert caught.value.code == C.INVALID_ARGUMENT
        one.doubling.open.set()
        assert values(await one.ask(1, 2, 3, 4)) == [2, 4, 6, 8]

    asyncio.run(scene())


def test_inputs_of_different_lengths(bench):
    async def scene():
        one = bench()
        inputs = {"x": np.zeros((2, 1)), "z": np.zeros((3, 1))}
        with pytest.raises(RequestRefused, match="equal 0th-dimension size"):
            await one.batcher.run(one.doubling, SIGNATURE, inputs)

    asyncio.run(scene())


def test_callers_who_go_away(bench):
    """Before their run they cost nothing; during it they harm nobody; the queue stays whole."""

    async def scene():
        one = bench(max_batch_size=4, max_enqueued_batches=1)
        first = await one.occupied()
        gone, stays = one.ask(1, 1), one.ask(2)
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()
        await asyncio.sleep(0)
        one.doubling.open.set()
        assert values(await stays) == [4]
        assert one.doubling.runs == [1, 1]
        everybody = [one.ask(number) for number in range(4)]
        await asyncio.sleep(0)
        for task in everybody:
            task.cancel()
        await asyncio.sleep(0)
        assert [values(await one.ask(number)) for number in range(8)] == [[2 * number] for number in range(8)]

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_callers_who_went_away_leave_their_place_in_the_queue(bench):
    async def scene():
        one = bench(max_batch_size=4, max_enqueued_batches=1)
        first = await one.occupied()
        for _ in range(5):
            gone = one.ask(1, 1, 1)
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
        stays = one.ask(3)
        await asyncio.sleep(0)
        one.doubling.open.set()
        assert values(await stays) == [6]
        await first
        assert one.doubling.runs == [1, 1]

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_a_lone_caller_waits_for_nobody(bench):
    async def scene():
        one = bench(batch_timeout_micros=NEVER_MICROS)
        one.doubling.open.set()
        assert [values(await one.ask(number)) for number in range(5)] == [[0], [2], [4], [6], [8]]

    asyncio.run(asyncio.wait_for(scene(), 30))


def test_company_that_does_not_come_is_waited_for_no_longer_than_asked(bench):
    async def scene():
        one = bench(batch_timeout_micros=50_000)
        one.doubling.open.set()
        await asyncio.gather(*(one.ask(number) for number in range(20)))
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert values(await one.ask(4)) == [8]
        assert loop.time() - started >= 0.045

    asyncio.run(asyncio.wait_for(scene(), 30))


@pytest.mark.parametrize(
    "wrong", [{"max_batch_size": 0}, {"max_enqueued_batches": 0}, {"batch_timeout_micros": -1}], ids=str
)
def test_wrong_sizes(wrong):
    with pytest.raises(ConfigurationError, match="of at least"):
        Batching(**wrong)


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    path = tmp_path_factory.mktemp("batching") / "m"
    path.mkdir()
    (path / "1").symlink_to(exports / "1")
    return path


def test_over_the_wire_all_sizes_and_signatures_equal_numpy(base, connect, predict_request, oracle, scrape):
    """Many callers at once, some with bad images: each gets its own latents, or is refused with the bad ones."""
    kinds = ("serving_default", "encode_uint8", "encode_bytes", "bad", "describe")
    rows = [1 + number % 9 for number in range(300)]
    answered = dict.fromkeys(kinds, 0)
    with ModelServer(base, batching=Batching(max_batch_size=32), metrics_port=0, workers=32) as server:
        stub = connect(server).prediction

        def call(number):
            kind = kinds[number % 5]
            pixels = np.random.default_rng(number).integers(0, 256, (rows[number], 2, 2, 3), np.uint8)
            files = [tf.io.encode_png(image).numpy() for image in pixels]
            signature, inputs = {
                "serving_default": ("", {"images": (pixels / 255).astype(np.float32)}),
                "encode_uint8": ("encode_uint8", {"images": pixels}),
                "encode_bytes": ("encode_bytes", {"image_bytes": files}),
                "bad": ("encode_bytes", {"image_bytes": [*files[1:], b"no image"]}),
                "describe": ("describe", {}),
            }[kind]
            pending = stub.Predict.future(predict_request(signature=signature, **inputs), timeout=DEADLINE_S)
            if pending.exception() is not None:
                assert pending.exception().code() == C.INVALID_ARGUMENT
                return kind, False
            if kind == "describe":
                assert b'"fingerprint": "f1"' in pending.result().outputs["model_card"].string_val[0]
            else:
                latents = tf.make_ndarray(pending.result().outputs["latents"])
                np.testing.assert_allclose(latents, oracle(pixels / 255), rtol=1e-4, atol=1e-5)
            return kind, True

        with ThreadPoolExecutor(24) as callers:
            for kind, good in callers.map(call, np.random.default_rng(0).permutation(300).tolist()):
                answered[kind] += good
        figures = scrape(server)
    # Files that ran with a bad one are refused with it.
    assert answered.pop("encode_bytes") <= 60
    assert answered == {"serving_default": 60, "encode_uint8": 60, "bad": 0, "describe": 60}
    # "describe" has no rows to be joined.
    assert figures["ae_search_batch_rows_sum",] == sum(count for number, count in enumerate(rows) if number % 5 != 4)
    # How many are joined depends on how fast the callers come; without joining there were a batch for each of 240.
    assert figures["ae_search_batch_rows_count",] < 240


def test_over_the_wire_too_many_rows(base, connect, predict_request):
    with ModelServer(base, batching=Batching(max_batch_size=4)) as server, pytest.raises(grpc.RpcError) as caught:
        images = np.zeros((5, 2, 2, 3), np.float32)
        connect(server).prediction.Predict(predict_request(images=images), timeout=DEADLINE_S)
    assert caught.value.code() == C.INVALID_ARGUMENT
    assert caught.value.details() == "Task size 5 is larger than maximum input batch size 4"
