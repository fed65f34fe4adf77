"""Search by image, blocking."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from ae_search.contract import Encoder, Index, Neighbour, Where
from ae_search.explaining import PARTS, STEPS, Explanation
from ae_search.plan import carry_out
from ae_search.search.as_files import ImageInput
from ae_search.search.candidates import Candidate
from ae_search.search.examples import by_example, check_examples
from ae_search.search.explained import explained, latent_itself, latent_of_query
from ae_search.search.query import Images, Match, QueryOptions, answered, judged, looks_plain, matched
from ae_search.search.trusting import TrustOptions, trusted
from ae_search.trust import Trusted


class ImageSearch:
    """Finds the images of an index that are most similar to a query image.

    Construction is the handshake: the encoder is pinned to the version that the index was built with, or to the
    newest one if that has the same fingerprint. When the index is rebuilt with another model, the next search shakes
    hands anew; no latent is ever compared with those of another model.

    A search can be pickled and copied where encoder and index can; what arrives shakes hands at its first search.

    Args:
        encoder: `LatentClient` or `LocalEncoder`.
        index: The index.

    Attributes:
        index: The index.

    Raises:
        ModelMismatchError: The encoder has no version with the index's fingerprint.
        ServerError: The encoder does not answer.

    Example:
        search = ImageSearch(LatentClient("127.0.0.1:8500", model="fashion"), LatentIndex.open("index"))
        for neighbour in search.search("photo.jpg", k=10):
            print(neighbour.rank, neighbour.key, neighbour.similarity)
    """

    def __init__(self, encoder: Encoder, index: Index) -> None:
        self.index = index
        self._given = encoder
        self._match: Match | None = None
        self._agree(None)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_match": None}

    @property
    def encoder(self) -> Encoder:
        """The encoder, pinned to the index's version."""
        encoder: Encoder = self._agree(None).encoder
        return encoder

    def search(
        self,
        image: ImageInput | None = None,
        k: int = 10,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[Neighbour]:
        """Return the `k` most similar images, the most similar first.

        Args:
            image: A path, the bytes of an image file, a `PIL.Image`, or pixels `[h, w]` or `[h, w, c]`, uint8 or
                in [0, 1]. Pixels of the model's shape go to it as they are; others it resizes as it does files. None
                for a search by `like` alone, which asks no encoder.
            k: How many, at least 1; fewer come where the index holds fewer.
            like: Keys of items to be near to as well, each as much as the image.
            unlike: Keys of items to be far from. What is searched with is mean(like) + (mean(like) - mean(unlike)), the
                image among the like; of the angular metric, directions count. Neither comes back as a neighbour.
            where: Conditions that an item must meet; see `contract.parse_where`.
            effort: Work to do for the query, in the index's own unit; None for what was tuned.
            exact: Whether to compare with every item.
            views: Whether to search with 31 altered views of the image as well, 33 if it has a border, at several
                times the cost: what was cropped, turned, moved, mirrored or framed is found through a view that undoes
                it. An item counts by the view that it is nearest to; similarity and distance are that view's. In an
                index that is calibrated, a view counts for less the more similar it is to items of all kinds, so that
                the answers are not quite in the order of their distances.

        Raises:
            ConfigurationError: The index lacks a key, or `like` and `unlike` cancel each other out.
            ImageError: The image cannot be decoded or has the wrong shape.
            ModelMismatchError: The index was rebuilt with a model that the encoder does not have.
            ServerError: The encoder does not answer.
            ValueError: There is neither image nor `like`, or `views` beside `like`.
        """
        examples = check_examples(like, unlike, has_image=image is not None, views=views)
        if image is None:
            return by_example(self.index, examples, k, where=where, effort=effort, exact=exact)
        query = QueryOptions(k, where, effort, exact, views, examples)
        return carry_out(answered(self._agree, self.index, [image], query))[0]

    def search_batch(
        self,
        images: Images,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
    ) -> list[list[Neighbour]]:
        """Return the `k` most similar images for each of `images`, which may be of several kinds."""
        query = QueryOptions(k, where, effort, exact, views)
        return carry_out(answered(self._agree, self.index, images, query))

    def originals(
        self,
        image: ImageInput,
        k: int = 3,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = True,
    ) -> list[Candidate]:
        """Return the `k` best candidates for the original of an image, which may be an altered copy, and what each is.

        The index must be calibrated, as `ae-search index build` and `index tune` do. Where the first candidate's
        verdict is "not here", or there is none, the original is not in the index.

        Args:
            image: As in `search`.
            k: How many, at least 1.
            where: As in `search`.
            effort: As in `search`.
            exact: As in `search`.
            views: Whether to search with altered views as well; see `search`.

        Raises:
            ConfigurationError: The index is not calibrated.
            ImageError: The image cannot be decoded or has the wrong shape.
            ModelMismatchError: The index was rebuilt with a model that the encoder does not have.
            ServerError: The encoder does not answer.
        """
        return self.originals_batch([image], k, where=where, effort=effort, exact=exact, views=views)[0]

    def originals_batch(
        self,
        images: Images,
        k: int = 3,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = True,
    ) -> list[list[Candidate]]:
        """Return the `k` best candidates for the original of each of `images`, which may be of several kinds."""
        query = QueryOptions(k, where, effort, exact, views)
        return carry_out(judged(self._agree, self.index, images, query))

    def search_with_trust(
        self,
        image: ImageInput,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
        check_reconstruction: bool = False,
    ) -> Trusted:
        """Return what `search` does, and whether the query is like what the model was trained on.

        It is not where its tenth neighbour is farther away than those of 99 % of the items of the index, each held
        out, are from theirs. `ae-search index build` keeps what is usual. With `where` or `views`, the index is
        searched once more for it.

        Args:
            image: As for `search`, like the other arguments.
            k: How many.
            where: Conditions that an item must meet.
            effort: Work to do for the query.
            exact: Whether to compare with every item.
            views: Whether to search with altered views of the image as well.
            check_reconstruction: Whether to look also at how well the model's decoder gives the image back, which
                takes a call of the decoder; without a decoder it changes nothing.

        Raises:
            ImageError: The image cannot be decoded or has the wrong shape.
            ModelMismatchError: The index was rebuilt with a model that the encoder does not have.
            ServerError: The encoder does not answer.
        """
        query = QueryOptions(k, where, effort, exact, views)
        plan = trusted(self._agree, self.index, [image], TrustOptions(query, check_reconstruction))
        return carry_out(plan)[0]

    def search_with_trust_batch(
        self,
        images: Images,
        k: int = 10,
        *,
        where: Where | None = None,
        effort: int | None = None,
        exact: bool = False,
        views: bool = False,
        check_reconstruction: bool = False,
    ) -> list[Trusted]:
        """Return what `search_with_trust` does for each of `images`, which may be of several kinds."""
        query = QueryOptions(k, where, effort, exact, views)
        return carry_out(trusted(self._agree, self.index, images, TrustOptions(query, check_reconstruction)))

    def explain(
        self,
        image: ImageInput | None,
        key: str,
        *,
        like: Sequence[str] = (),
        unlike: Sequence[str] = (),
        steps: int = STEPS,
        parts: int = PARTS,
    ) -> Explanation:
        """Return why an image and an item are similar, as far as the model's latents and decoder say.

        Args:
            image: As for `search`; None where `like` alone says what was searched for.
            key: Key of the item.
            like: Items that were to be near to, as for `search`.
            unlike: Items that were to be far from.
            steps: Images of the walk from one to the other, 2 to 64.
            parts: Dimensions of the latents to show, 0 to 32.

        Raises:
            ConfigurationError: The model has no decoder, or the index lacks the key.
            ImageError: The image cannot be decoded or has the wrong shape.
            ServerError: The encoder does not answer.
            ValueError: `steps` or `parts` is out of range, or there is neither an image nor `like`.
        """
        query = latent_of_query(self.index, image, like=like, unlike=unlike)
        return carry_out(explained(self._agree, self.index, query, key, steps=steps, parts=parts))

    def explain_latent(self, latent: npt.ArrayLike, key: str, *, steps: int = STEPS, parts: int = PARTS) -> Explanation:
        """Return what `explain` does for a latent `[d]` of the index's model, such as that of another item."""
        query = latent_itself(latent)
        return carry_out(explained(self._agree, self.index, query, key, steps=steps, parts=parts))

    def plain(self, image: ImageInput) -> bool:
        """Return whether an image is of one colour but for noise, such as a blank page.

        Such an image has no meaningful neighbours: what a search finds for it is near by chance. It is decoded for
        this, and no server is asked.

        Args:
            image: A path, the bytes of an image file, or pixels `[h, w, c]`, uint8 or in [0, 1].

        Raises:
            ImageError: The image cannot be decoded.
        """
        return looks_plain(image)

    def _agree(self, stale: Match | None) -> Match:
        """Return the match, made anew if there is none but a stale one."""
        match = self._match
        if match is None or match is stale:
            self._match = match = carry_out(matched(self._given, self.index))
        return match
