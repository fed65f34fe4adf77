"""`ae-search embed` on a runner of Beam's: one job from a source to shards."""

import os
import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions, TypeOptions
from apache_beam.runners import create_runner
from apache_beam.runners.runner import PipelineState

from ae_search import errors
from ae_search.beam.encoding import EncodeImages
from ae_search.beam.job_files import begin, report
from ae_search.beam.places import check_reachable, is_local
from ae_search.beam.reading import ReadImages
from ae_search.beam.writing import WriteLatents
from ae_search.client import LatentClient
from ae_search.contract import ModelRef
from ae_search.data import SourceOptions
from ae_search.errors import AeSearchError, ConfigurationError, PipelineError
from ae_search.files import make_folder
from ae_search.indexing.shards import SHARD_ITEMS, EmbedReport, only_writer

_DEFAULT = SourceOptions()
_DIRECT = re.compile(r"(direct|switchingdirect)(runner)?", re.IGNORECASE)
# Threads of Beam's that end with an error when their worker process has died.
_OF_A_WORKER = ("run_worker", "beam_control_read")
_QUIET_WORKERS = "--default_sdk_harness_log_level=WARNING"
# What Beam adds to an error's text, and how an error of ours looks in the text of a worker's traceback.
_STEP = re.compile(r" \[while running '[^']*'\]")
_OURS = re.compile(r"ae_search\.errors\.(\w+): (.+)")


def is_direct(runner: str) -> bool:
    """Tell whether a runner is Beam's own, whose workers are of this machine."""
    return _DIRECT.fullmatch(runner) is not None


def options_of(runner: str, arguments: Sequence[str]) -> PipelineOptions:
    """Return the options of a pipeline, as a command line has them.

    Args:
        runner: Name of the runner.
        arguments: The other options, as "--name=value" or as "--name" and "value".

    Raises:
        ConfigurationError: There is no such runner; an argument belongs to no option; or no option has its name, where
            Beam knows them all.
    """
    options = PipelineOptions([f"--runner={runner}", _QUIET_WORKERS, *arguments])
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigurationError(f"--runner {runner}: {error}") from error
    known = options.get_all_options()
    if is_direct(runner):
        unknown = [name for name in options.get_all_options(retain_unknown_options=True) if name not in known]
        if unknown:
            raise ConfigurationError(f"There is no option --{unknown[0]}, neither here nor of Beam's {runner}.")
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument.startswith("-") and not (before.startswith("-") and "=" not in before):
            raise ConfigurationError(f"Expected options for Beam. Received: {argument!r}, which belongs to none.")
    return options


def embed_on_runner(
    source: str,
    client: LatentClient,
    out: str,
    options: PipelineOptions,
    *,
    only: Sequence[str] = (),
    source_options: SourceOptions = _DEFAULT,
    shard_items: int = SHARD_ITEMS,
    strict: bool = False,
    restart: bool = False,
) -> EmbedReport:
    """Write the latents of every image of a source as Parquet files, by a job on a runner of Beam's.

    A job begins at its beginning: what an unfinished one has left in `out` is removed. Its runner does again what fails
    on the way.

    Args:
        source: SOURCE; see `ReadImages`.
        client: Whom the workers ask.
        out: The folder to write, a path or a URL: new, empty, or of a job of the same source and model.
        options: Options of the pipeline; they name the runner.
        only: Patterns of file names, for a part of a folder.
        source_options: How the source is opened.
        shard_items: Images to a shard, about, at least 1.
        strict: Whether JPEG files that are cut short count as damaged.
        restart: Remove what a finished job, or one of another source, has written there.

    Raises:
        ConfigurationError: `out` holds something else or cannot be written, or no image can be read.
        ModelMismatchError: The server has another model by now.
        PipelineError: The job failed for another reason.
        ServerError: The server does not answer, or has the version no more.
    """
    pipeline = _pipeline(options)  # first: file systems take some of its options
    check_reachable(out)
    read, encode = ReadImages(source, only=only, options=source_options), EncodeImages(client, strict=strict)
    model = ModelRef(encode.model.name, encode.model.version, encode.model.fingerprint)
    with ExitStack() as stack:
        if is_local(out):
            out = os.path.abspath(out)
            _check_apart(out, read.argument)
            make_folder(Path(out), "output")
            stack.enter_context(only_writer(Path(out)))
        begin(out, read.argument, model, shard_items=shard_items, restart=restart)
        with _our_errors(), _ended_with_a_worker():
            pipeline | read | encode | WriteLatents(out, encode.model, shard_items=shard_items)  # noqa: B018
            state = pipeline.run().wait_until_finish()
            if state not in (None, PipelineState.DONE):
                raise PipelineError(f"The job ended as {state}; its runner says why.")
        return report(out, model)


def _check_apart(out: str, source: str) -> None:
    if is_local(source) and Path(source).is_dir() and Path(out).is_relative_to(Path(source).resolve()):
        raise ConfigurationError(f"{out} lies among the images of {source}; choose another --out.")


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    """Return an empty pipeline.

    Beam's direct runner would fetch a program of its own, Prism, which knows nothing of the direct runner's options. It
    does so only where no trigger could be unsafe; there are no triggers here.
    """
    if is_direct(options.view_as(StandardOptions).runner or "DirectRunner"):
        options.view_as(TypeOptions).allow_unsafe_triggers = True
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        raise ConfigurationError(f"Beam refuses its options: {' '.join(str(error).split())}") from error


@contextmanager
def _our_errors() -> Iterator[None]:
    """Raise what a worker raised as itself; it comes as text from other processes."""
    try:
        yield
    except AeSearchError as error:
        raise type(error)(_STEP.sub("", str(error))) from error
    except Exception as error:  # each runner has errors of its own
        text = str(error)
        found = _OURS.findall(text)
        kind = getattr(errors, found[-1][0], None) if found else None
        if isinstance(kind, type) and issubclass(kind, AeSearchError):
            raise kind(_STEP.sub("", found[-1][1])) from error
        lines = [line for line in _STEP.sub("", text).splitlines() if line.strip()] or [type(error).__name__]
        raise PipelineError(f"The job failed: {lines[-1].strip()}") from error


@contextmanager
def _ended_with_a_worker() -> Iterator[None]:
    """End a job of the direct runner when one of its processes has died: Beam itself would wait for it for ever.

    Beam waits in the main thread, which only a signal reaches; a job in another thread is left alone.
    """
    main, hook = threading.main_thread(), threading.excepthook
    if threading.current_thread() is not main:
        yield
        return
    died, interrupted = threading.Event(), threading.Event()

    def watch(ended: threading.ExceptHookArgs) -> None:
        thread = "" if ended.thread is None else ended.thread.name
        if died.is_set() or interrupted.is_set():
            return  # one thing has led to another
        if thread not in _OF_A_WORKER:
            hook(ended)
        elif thread == _OF_A_WORKER[0] and main.ident is not None:
            died.set()
            signal.pthread_kill(main.ident, signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not died.is_set():
            interrupted.set()  # by Ctrl-C, which ends the workers, too
        raise KeyboardInterrupt

    threading.excepthook, before = watch, signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        if not died.is_set():
            raise
        raise PipelineError(
            "The job failed: one of its worker processes has died, perhaps for want of memory; the same command "
            "begins it anew."
        ) from None
    finally:
        threading.excepthook = hook
        signal.signal(signal.SIGINT, before)
