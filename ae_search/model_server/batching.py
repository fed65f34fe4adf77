"""Requests that arrive together for the same version and signature run together."""

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import grpc

from ae_search.cores import cores
from ae_search.model_server.joining import joined_inputs, rows_of, size_in_bytes, split_outputs
from ae_search.model_server.options import Batching
from ae_search.model_server.refusal import RequestRefused
from ae_search.model_server.servable import Inputs, Outputs, Servable

# Share of the recent callers that are waited for. Fewer make smaller runs, which cost more than the waiting; the last
# ones may be slow.
COMPANY = 0.8
MICROSECONDS = 1_000_000
# Each of many rows may be a whole image file.
MAX_WAITING_BYTES = 256 * 2**20
STOPPED = "The server is stopping"
QUEUE_FULL = "The batch scheduling queue to which this task was submitted is full"
Result = Outputs | BaseException


@dataclass(eq=False)
class Task:
    """One request that waits for its outputs."""

    servable: Servable
    signature: str
    inputs: Inputs
    rows: int
    n_bytes: int
    outputs: "asyncio.Future[Outputs]"


@dataclass(eq=False)
class Queue:
    """The requests of one signature of one loaded version.

    Attributes:
        waiting: Requests in order of arrival.
        rows: Their rows.
        n_bytes: What their inputs take.
        running: Runs under way.
        unanswered: Requests that wait or run.
        expected: The most that were unanswered at a time, of late.
        timer: Ends the wait for company.
    """

    waiting: deque[Task] = field(default_factory=deque)
    rows: int = 0
    n_bytes: int = 0
    running: int = 0
    unanswered: int = 0
    expected: float = 1.0
    timer: asyncio.Handle | None = None

    def add(self, task: Task) -> None:
        """Take one more request."""
        self.waiting.append(task)
        self.rows += task.rows
        self.n_bytes += task.n_bytes
        self.unanswered += 1
        self.expected = max(self.expected, self.unanswered)

    def pop(self) -> None:
        """Take the first request out."""
        task = self.waiting.popleft()
        self.rows -= task.rows
        self.n_bytes -= task.n_bytes

    def leave(self, task: Task) -> None:
        """Forget a request whose caller has gone, if it still waits: its place is another's."""
        if task in self.waiting:
            self.waiting.remove(task)
            self.rows -= task.rows
            self.n_bytes -= task.n_bytes
            self.unanswered -= 1

    @property
    def in_company(self) -> bool:
        """Whether most of those that use to come are here."""
        return len(self.waiting) >= COMPANY * self.expected


class Batcher:
    """Joins requests; all but the runs themselves happens in one event loop and needs no lock.

    While a run is under way, what arrives is gathered for the next one; only full batches are run beside it. An idle
    queue runs when most of its recent callers wait, at the latest after `batch_timeout_micros`: a lone caller waits for
    nobody, and many callers are not run one by one. What makes one request of a run fail makes all of them fail.
    """

    def __init__(self, options: Batching, executor: Executor, *, on_run: Callable[[int], None] | None = None) -> None:
        """Take the options.

        Args:
            options: Sizes and time.
            executor: What the batches are run on.
            on_run: Called with the rows of each run, on the executor's thread.
        """
        self._options = options
        self._executor = executor
        self._on_run = on_run
        self._most_running = cores()
        self._queues: WeakKeyDictionary[Servable, dict[str, Queue]] = WeakKeyDictionary()

    async def run(self, servable: Servable, signature: str, inputs: Inputs) -> Outputs:
        """Return the outputs of one request, run together with others.

        Args:
            servable: The version that it asks for.
            signature: One whose inputs have rows.
            inputs: What `Servable.prepare` returned.

        Raises:
            RequestRefused: It has too many rows, the queue is full, or the model refuses it.
        """
        rows, n_bytes = rows_of(inputs), sum(map(size_in_bytes, inputs.values()))
        if rows > (most := self._options.max_batch_size):
            raise RequestRefused(
                grpc.StatusCode.INVALID_ARGUMENT, f"Task size {rows} is larger than maximum input batch size {most}"
            )
        queue = self._queues.setdefault(servable, {}).setdefault(signature, Queue())
        most_rows = most * self._options.max_enqueued_batches
        if queue.rows + rows > most_rows or queue.n_bytes + n_bytes > MAX_WAITING_BYTES:
            raise RequestRefused(grpc.StatusCode.UNAVAILABLE, QUEUE_FULL)
        task = Task(servable, signature, inputs, rows, n_bytes, asyncio.get_running_loop().create_future())
        queue.add(task)
        self._start(queue)
        try:
            return await task.outputs
        except asyncio.CancelledError:
            queue.leave(task)
            raise

    def _start(self, queue: Queue, *, waited: bool = False) -> None:
        """Start a run on what waits, or see to it that one will start."""
        full = queue.rows >= self._options.max_batch_size
        if not queue.waiting or queue.running >= (self._most_running if full else 1):
            return
        loop = asyncio.get_running_loop()
        if not (full or waited or queue.in_company):
            if queue.timer is None:
                wait_s = self._options.batch_timeout_micros / MICROSECONDS
                queue.timer = loop.call_later(wait_s, self._end_of_wait, queue)
            return
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        queue.expected = max(queue.unanswered, (queue.expected + queue.unanswered) / 2)
        if batch := self._take(queue):
            queue.running += 1
            finish = functools.partial(self._finish, queue, batch)
            try:
                self._executor.submit(self._work, batch, lambda results: loop.call_soon_threadsafe(finish, results))
            except RuntimeError:  # it has been shut down
                loop.call_soon(finish, [RequestRefused(grpc.StatusCode.UNAVAILABLE, STOPPED)] * len(batch))

    def _end_of_wait(self, queue: Queue) -> None:
        queue.timer = None
        self._start(queue, waited=True)

    def _take(self, queue: Queue) -> list[Task]:
        """Return the next requests that fit one batch, without those whose caller has gone."""
        batch: list[Task] = []
        rows = 0
        while queue.waiting:
            task = queue.waiting[0]
            if not task.outputs.done():
                if batch and rows + task.rows > self._options.max_batch_size:
                    break
                batch.append(task)
                rows += task.rows
            else:
                queue.unanswered -= 1
            queue.pop()
        return batch

    def _work(self, batch: list[Task], done: Callable[[list[Result]], object]) -> None:
        """Run a batch, on the executor's thread; whatever goes wrong, nobody is left waiting."""
        results: list[Result]
        try:
            if self._on_run is not None:
                self._on_run(sum(task.rows for task in batch))
            results = _run_joined(batch)
        except Exception as error:
            results = [error] * len(batch)
        done(results)

    def _finish(self, queue: Queue, batch: list[Task], results: list[Result]) -> None:
        queue.running -= 1
        queue.unanswered -= len(batch)
        for task, result in zip(batch, results, strict=True):
            if task.outputs.done():
                continue
            if isinstance(result, BaseException):
                task.outputs.set_exception(result)
            else:
                task.outputs.set_result(result)
        self._start(queue)


def _run_joined(batch: list[Task]) -> list[Result]:
    """Run a batch in one go; whatever goes wrong with one request goes wrong with all, as in TensorFlow Serving.

    Raises:
        RequestRefused: The rows differ in shape, the model refuses one of them, or its outputs are no rows.
    """
    inputs = {name: joined_inputs(name, [task.inputs[name] for task in batch]) for name in batch[0].inputs}
    outputs = batch[0].servable.execute(batch[0].signature, inputs)
    return [*split_outputs(outputs, [task.rows for task in batch])]
