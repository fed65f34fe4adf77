"""What the service answers as JSON, for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ae_search.calibration import Verdict
from ae_search.contract import Metric
from ae_search.web.parameters import Digest


class Query(BaseModel):
    """What was searched for."""

    key: str | None
    image: str | None
    like: list[str]
    unlike: list[str]
    where: dict[str, JsonValue] | None


class Model(BaseModel):
    """The model whose latents are compared."""

    name: str
    version: int
    fingerprint: str


class FoundItem(BaseModel):
    """One neighbour."""

    rank: int
    key: str
    label: str | None
    similarity: float
    distance: float
    metadata: dict[str, JsonValue]
    thumbnail: Annotated[str | None, Field(description="With `thumbnails`: an address.")] = None
    folded_under: Annotated[str | None, Field(description="With `fold`: the earlier one that it repeats.")] = None
    verdict: Annotated[Verdict | None, Field(description="With `originals`.")] = None
    score: Annotated[float | None, Field(description="With `originals`.")] = None


class TrustAnswer(BaseModel):
    """How usual an image is for the index."""

    familiar: Annotated[
        bool | None,
        Field(
            description="False: it is unlike what the model was trained on. Null: the index keeps nothing to compare."
        ),
    ]
    distance: Annotated[float | None, Field(description="To its tenth neighbour in the whole index.")]
    distance_share: Annotated[float | None, Field(description="Share of held-out items that are nearer to theirs.")]
    error: Annotated[float | None, Field(description="With `check_reconstruction`: the reconstruction error.")]
    error_share: Annotated[float | None, Field(description="Share of held-out items with a smaller one.")]


class SearchAnswer(BaseModel):
    """What was found."""

    query: Query
    model: Model
    plain: Annotated[bool | None, Field(description="With `plain`.")]
    trust: Annotated[
        TrustAnswer | None, Field(description="Of an image alone, with the first page, where the index keeps it.")
    ]
    verdict: Annotated[Verdict | None, Field(description="With `originals`: that of the first.")]
    neighbours: list[FoundItem]
    next: Annotated[str | None, Field(description="The cursor of what follows; null where nothing does.")]
    more: Annotated[bool, Field(description="Whether there is more than can be listed.")]
    took_ms: float


Picture = Annotated[str, Field(description="A PNG file in base64.", json_schema_extra={"format": "byte"})]


class PartAnswer(BaseModel):
    """One float of the latents."""

    dimension: int
    contribution: Annotated[float, Field(description="What it adds to the similarity.")]
    where: Annotated[Picture, Field(description="Where it shows, grey: 0 for nowhere. A PNG file in base64.")]


class ExplainAnswer(BaseModel):
    """Why an item is similar to what was searched for."""

    key: str
    similarity: float
    query: Annotated[Picture, Field(description="What the model keeps of the query. A PNG file in base64.")]
    item: Annotated[Picture, Field(description="What it keeps of the item. A PNG file in base64.")]
    agreement: Annotated[
        Picture, Field(description="Grey: 255 where both look the same, 0 where opposite. A PNG file in base64.")
    ]
    parts: list[PartAnswer]
    rest: Annotated[float, Field(description="What all other floats add to the similarity.")]
    walk: Annotated[list[Picture], Field(description="From the query to the item.")]


class Item(BaseModel):
    """An item of the index."""

    key: str
    label: str | None
    metadata: dict[str, JsonValue]
    thumbnail: str | None = None


class ItemsAnswer(BaseModel):
    """Some items."""

    items: list[Item]
    next: str | None


class Added(BaseModel):
    """How many items were added."""

    added: int


class Updated(BaseModel):
    """How many items were changed."""

    updated: int


class Removed(BaseModel):
    """How many items were removed."""

    removed: int


class Upload(BaseModel):
    """An image that is kept."""

    image: Digest
    width: int
    height: int
    bytes: int


class LabelCount(BaseModel):
    """How many items have a label; null for none."""

    label: str | None
    count: int


class LabelsAnswer(BaseModel):
    """The labels, the most frequent first."""

    labels: list[LabelCount]
    items: int
    more: bool


class ValueCount(BaseModel):
    """How many items have a value."""

    value: str | float | int | bool | None
    count: int


class MetadataField(BaseModel):
    """A field of the metadata."""

    name: str
    kinds: list[Literal["text", "number", "boolean", "null", "list", "object"]]
    items: int
    values: list[ValueCount]
    min: float | None = None
    max: float | None = None


class FieldsAnswer(BaseModel):
    """The fields of the metadata of the first items."""

    fields: list[MetadataField]
    sampled: int


class Features(BaseModel):
    """What this service, this index and this caller's key allow."""

    originals: bool
    views: bool
    write: bool
    uploads: bool
    fold: bool
    explain: bool
    distrust: bool


class Bounds(BaseModel):
    """How much may be asked for."""

    body_bytes: int
    k: int
    depth: int
    depth_views: int
    upload_s: float


class Command(BaseModel):
    """What the command line would be given; null where that is nobody's business."""

    index: str | None
    server: str | None
    model: str | None


class IndexAnswer(BaseModel):
    """The index."""

    model_config = ConfigDict(protected_namespaces=())

    items: int
    latents: int
    latent_dim: int
    metric: Metric
    model: Model
    image_shape: list[int] | None
    engine: str
    recall: float
    generation: str
    created: str
    calibrated: bool
    features: Features
    limits: Bounds
    command: Command


class SessionAnswer(BaseModel):
    """What the caller may do, and whether there are keys that allow more."""

    read: bool
    write: bool
    read_key: bool
    write_key: bool


class Health(BaseModel):
    """The process runs."""

    status: Literal["ok"]


class Ready(BaseModel):
    """Model and index answer, and belong together."""

    status: Literal["ready"]
    model: Model


class ProblemAnswer(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Field(description="What a program decides by.")]
    errors: list[dict[str, Any]] = []
