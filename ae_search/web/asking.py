"""What a search is asked for, whichever way: parameters of an address, fields of a form, JSON."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

from ae_search.checked_json import parsed_object
from ae_search.contract import Where, parse_where
from ae_search.web.cursors import asked_digest
from ae_search.web.parameters import SearchBody, SearchOptions, SearchParameters
from ae_search.web.problems import Problem

_WHERE_BYTES = 65536


@dataclass(frozen=True)
class Asked:
    """What to search for, checked.

    Attributes:
        parameters: As they came.
        where: The filter, None for none.
        file: The bytes of an image, None for none.
        image: Digest of that image, or of one that is kept.
        latent: A latent of d floats, None for none.
        fingerprint: Fingerprint of the latent's model, where it was told.
    """

    parameters: SearchOptions
    where: Where | None
    file: bytes | None = field(default=None, repr=False)
    image: str | None = None
    latent: list[float] | None = None
    fingerprint: str | None = None

    @classmethod
    def of(
        cls, parameters: SearchParameters | SearchBody, *, file: bytes | None = None, image: str | None = None
    ) -> Self:
        """Check what came.

        Raises:
            Problem: It is not one question.
        """
        if isinstance(parameters, SearchBody):
            asked = cls(
                parameters,
                where_of(parameters.where, parameters.label),
                latent=parameters.latent,
                fingerprint=parameters.fingerprint,
                image=parameters.image,
            )
        else:
            asked = cls(parameters, where_of(parameters.where, parameters.label), file, image or parameters.image)
        asked._check()
        return asked

    def with_file(self, file: bytes) -> Self:
        """Return the same with the bytes of the image that is kept."""
        return replace(self, file=file)

    @property
    def like(self) -> list[str]:
        """Keys of the items to be near to, where there are examples: the item to search by is one more."""
        given = self.parameters
        return [*([given.key] if given.key is not None else []), *given.like]

    @property
    def is_by_example(self) -> bool:
        """Whether there are examples."""
        return bool(self.parameters.like or self.parameters.unlike)

    @property
    def by(self) -> str:
        """What it searches by, for the figures."""
        if self.is_by_example:
            return "example"
        return "image" if self.image is not None else "latent" if self.latent is not None else "key"

    def digest(self) -> str:
        """Return what tells this question from others: cursors go on with the same one."""
        given = self.parameters
        return asked_digest(
            [given.key, self.image, self.latent, given.like, given.unlike],
            [self.where, given.exact, given.views, given.originals, given.effort, given.k],
        )

    def told(self) -> dict[str, Any]:
        """Return the question as the answer repeats it."""
        given = self.parameters
        kept = self.image if given.keep or given.image is not None else None
        return {
            "key": given.key,
            "image": kept,
            "like": given.like,
            "unlike": given.unlike,
            "where": None if self.where is None else dict(self.where),
        }

    def _check(self) -> None:
        given = self.parameters
        ways = [given.key is not None, self.image is not None, self.latent is not None]
        if sum(ways) > 1:
            raise Problem("BadRequest", "Search by one of key, image, body and latent.")
        if not any(ways) and not given.like:
            raise Problem("BadRequest", "Search by a key, an image, a latent, or items to be like. Received: none.")
        if self.latent is not None and self.is_by_example:
            raise Problem("BadRequest", "A latent goes without like and unlike.")
        if (given.views or given.originals) and (self.image is None or self.is_by_example):
            raise Problem("BadRequest", "views and originals go with an image alone.")
        if given.check_reconstruction and self.image is None:
            raise Problem("BadRequest", "check_reconstruction goes with an image.")
        if given.keep and (self.file is None or given.image is not None):
            raise Problem("BadRequest", "keep is for an image in the body.")


def where_of(where: str | dict[str, Any] | None, labels: list[str]) -> Where | None:
    """Return the filter that a text or an object and labels make together, None for none.

    Raises:
        Problem: It is no filter.
    """
    try:
        found = parsed_object(where, max_bytes=_WHERE_BYTES) if isinstance(where, str) else dict(where or {})
        if labels and "label" in found:
            raise ValueError("it has a label, and so have the parameters")
        if labels:
            found["label"] = {"in": labels}
        if where is not None or labels:
            parse_where(found)
    except (ValueError, RecursionError) as error:
        raise Problem("BadRequest", f"where is no filter: {error}") from error
    return found or None
