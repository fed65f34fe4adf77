"""Every error that ae-search raises on purpose, one class for each reaction of the caller.

AeSearchError
├── ConfigurationError      an option, path or source is wrong: correct the call
├── ImageError              an image cannot be read or has the wrong form: leave it out or repair it
│   └── ImageRefusedError         the server refused what can be decoded here: try it again
├── ExportError             no usable SavedModel was, or could be, written
├── IndexBusyError          another process writes the index: wait for it
├── IndexDamagedError       a file of the index is missing, cut short or altered: restore or rebuild it
├── ModelMismatchError      index and model do not belong together: use the index's model, or rebuild it
├── NotSupportedError       the engine or the place of an index cannot do that: use another one
├── PipelineError           a job on Apache Beam failed: its text says of what; begin it anew
└── ServerError             the server's part of a call went wrong
    ├── ServerUnavailableError    it cannot be reached or takes no more work now: try later
    ├── ServerTimeoutError        no answer within the deadline: allow more time or send less
    ├── ModelNotServedError       it answers, but does not serve that model, version or signature
    ├── AccessDeniedError         it wants other credentials
    └── ServerAnswerError         it answered what the contract does not allow

A programmer's mistake stays ValueError or TypeError.
"""

from ae_search.printable import printable

__all__ = [
    "AccessDeniedError",
    "AeSearchError",
    "ConfigurationError",
    "ExportError",
    "ImageError",
    "ImageRefusedError",
    "IndexBusyError",
    "IndexDamagedError",
    "ModelMismatchError",
    "ModelNotServedError",
    "NotSupportedError",
    "PipelineError",
    "ServerAnswerError",
    "ServerError",
    "ServerTimeoutError",
    "ServerUnavailableError",
]


class AeSearchError(Exception):
    """Base of all errors of this package; its text is one sentence for the user, printable whatever it repeats."""

    def __str__(self) -> str:
        """Return the text as it may be shown."""
        return printable(super().__str__())


class ConfigurationError(AeSearchError):
    """An option, a path or a source is wrong."""


class ImageError(AeSearchError):
    """An image cannot be decoded or has the wrong form."""


class ImageRefusedError(ImageError):
    """The server refused an image that can be decoded here; it may have joined it with damaged ones of others."""


class ExportError(AeSearchError):
    """A SavedModel version could not be written or read."""


class IndexBusyError(AeSearchError):
    """Another process writes the index."""


class IndexDamagedError(AeSearchError):
    """A file of the index is missing, cut short or altered."""


class ModelMismatchError(AeSearchError):
    """The index was built from another model than the one that answers."""


class NotSupportedError(AeSearchError):
    """The engine or the place of an index cannot do that."""


class PipelineError(AeSearchError):
    """A job on Apache Beam failed for a reason that is none of the others."""


class ServerError(AeSearchError):
    """The server's part of a call went wrong."""


class ServerUnavailableError(ServerError):
    """The server cannot be reached, or takes no more work now."""


class ServerTimeoutError(ServerError):
    """The server did not answer within the deadline."""


class ModelNotServedError(ServerError):
    """The server does not serve the model, version or signature."""


class AccessDeniedError(ServerError):
    """The server wants other credentials."""


class ServerAnswerError(ServerError):
    """The server answered something that the contract does not allow."""
