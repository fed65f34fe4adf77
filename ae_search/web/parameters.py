"""What callers send as JSON or as parameters, checked."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ae_search.contract import MAX_LATENT_DIM, MAX_TEXT_BYTES
from ae_search.explaining import MOST_PARTS, MOST_STEPS, PARTS, STEPS

MAX_K = 1000
MAX_EXAMPLES = 100
MAX_ITEMS = 10_000

Key = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_BYTES, examples=["test/3.png"])]
Label = Annotated[str, Field(max_length=MAX_TEXT_BYTES, examples=["Bag"])]
LabelText = Annotated[str, Field(max_length=1000, description="Only labels that hold this text, in capitals or not.")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Digest of an image that is kept.")]
WHERE = '{"label": "Bag", "price": {"lt": 20}}'


class Strict(BaseModel):
    """What a caller sends: a name that is not known is an error, not passed over."""

    model_config = ConfigDict(extra="forbid")


class SearchOptions(Strict):
    """What to search for, however it is asked."""

    key: Annotated[Key | None, Field(description="An item to search by; itself is left out.")] = None
    image: Digest | None = None
    like: Annotated[list[Key], Field(max_length=MAX_EXAMPLES, description="Items to be near to.")] = []
    unlike: Annotated[list[Key], Field(max_length=MAX_EXAMPLES, description="Items to be far from.")] = []
    k: Annotated[int, Field(ge=1, le=MAX_K, description="Neighbours in one answer.")] = 10
    cursor: Annotated[str | None, Field(max_length=512, description="The `next` of the answer before.")] = None
    label: Annotated[list[Label], Field(max_length=1000, description="Only items with one of these labels.")] = []
    exact: Annotated[bool, Field(description="Compare with every item.")] = False
    views: Annotated[bool, Field(description="Search with altered views of the image as well.")] = False
    originals: Annotated[bool, Field(description="Say whether each is the original of the image.")] = False
    effort: Annotated[int | None, Field(ge=1, le=2**31 - 1, description="Work to do, in the index's own unit.")] = None
    fold: Annotated[bool, Field(description="Tell near-duplicates.")] = False
    thumbnails: Annotated[bool, Field(description="Give addresses of thumbnails.")] = False
    plain: Annotated[bool, Field(description="Say whether the image is of one colour.")] = False
    keep: Annotated[bool, Field(description="Keep the image of the body for a while.")] = False
    check_reconstruction: Annotated[
        bool, Field(description="Look also at how well the model gives the image back; see `trust`.")
    ] = False


class SearchParameters(SearchOptions):
    """What to search for, as parameters of an address."""

    where: Annotated[str | None, Field(max_length=65536, description="Conditions as JSON.", examples=[WHERE])] = None


class SearchBody(SearchOptions):
    """What to search for, as JSON."""

    where: Annotated[dict[str, JsonValue] | None, Field(description="Conditions.", examples=[{"label": "Bag"}])] = None
    latent: Annotated[
        list[float] | None, Field(min_length=1, max_length=MAX_LATENT_DIM, description="A latent to search by.")
    ] = None
    fingerprint: Annotated[
        str | None, Field(max_length=255, description="Fingerprint of the model that the latent comes from.")
    ] = None


class ExplainBody(Strict):
    """What was searched for, as for a search, and the item that was found."""

    key: Annotated[Key | None, Field(description="The item that was searched by.")] = None
    image: Digest | None = None
    like: Annotated[list[Key], Field(max_length=MAX_EXAMPLES, description="Items to be near to.")] = []
    unlike: Annotated[list[Key], Field(max_length=MAX_EXAMPLES, description="Items to be far from.")] = []
    item: Annotated[Key, Field(alias="with", description="The item that was found.")]
    steps: Annotated[int, Field(ge=2, le=MOST_STEPS, description="Pictures of the walk.")] = STEPS
    parts: Annotated[int, Field(ge=0, le=MOST_PARTS, description="Floats of the latents to show.")] = PARTS


class ItemParameters(Strict):
    """Which items to list."""

    limit: Annotated[int, Field(ge=1, le=MAX_K)] = 100
    cursor: Annotated[str | None, Field(max_length=512)] = None
    where: Annotated[str | None, Field(max_length=65536, examples=[WHERE])] = None
    label: Annotated[list[Label], Field(max_length=1000)] = []
    thumbnails: bool = False


class NewItem(Strict):
    """What an item has beside its image."""

    key: Key
    label: Label | None = None
    metadata: dict[str, JsonValue] | None = None


class ChangedItems(Strict):
    """Items to change: what is not named stays, null takes away."""

    items: Annotated[list[NewItem], Field(min_length=1, max_length=MAX_ITEMS)]


class Keys(Strict):
    """Some items."""

    keys: Annotated[list[Key], Field(min_length=1, max_length=MAX_ITEMS)]


class Login(Strict):
    """A key."""

    key: Annotated[str, Field(min_length=1, max_length=1024)]
