"""Which backbone a training has: found once, written down, and found again when a run goes on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, cast

from ae_search.errors import ConfigurationError
from ae_search.model.backbone import Backbone, load_backbone
from ae_search.model.backbone.applications import APPLICATIONS
from ae_search.model.backbone.feeding import IN_WORDS, Feeding
from ae_search.model.backbone.looks import central_size
from ae_search.model.input_range import InputRange
from ae_search.training.options import TrainingOptions


@dataclass(frozen=True)
class BackboneConfig:
    """A backbone as a run remembers it.

    Attributes:
        name: Its name in `keras.applications`, or the path of its file.
        digest: Hex sha256 of its file, or of its weights where it has a name.
        feeding: What it is fed: "0-1", "0-255", "-1-1", "torch" or "caffe".
        finetune: Last blocks of it that are trained.
    """

    name: str
    digest: str
    feeding: Feeding
    finetune: int = 0

    @classmethod
    def of(cls, backbone: Backbone, finetune: int) -> Self:
        """Return what a run remembers of a backbone."""
        return cls(backbone.name, backbone.digest, backbone.feeding, finetune)

    def summary(self) -> dict[str, Any]:
        """Return what a model card and a summary say of it: no more of a path than its last part."""
        return {**asdict(self), "name": Path(self.name).name, "fed": IN_WORDS[self.feeding]}

    def load(self, image_shape: tuple[int, int, int]) -> Backbone:
        """Load it again.

        Raises:
            ConfigurationError: It is not there any more, or is another one by now.
        """
        # What was asked for when the run began; a name has its own.
        asked = None if self.name in APPLICATIONS else cast(InputRange, self.feeding)
        found = load_backbone(self.name, size=central_size(image_shape[:2]), input_range=asked)
        if found.digest != self.digest:
            raise ConfigurationError(
                f"{self.name} is not the backbone that the run began with (sha256 {self.digest[:12]}, "
                f"now {found.digest[:12]}); bring that back, or choose another --run folder."
            )
        return found


def chosen_backbone(options: TrainingOptions) -> Backbone | None:
    """Load the backbone that is asked for; None where there is none.

    Raises:
        ConfigurationError: There is no such backbone, or another option does not go with it.
    """
    if options.backbone is None:
        for name, value in (("--finetune", options.finetune), ("--input-range", options.input_range)):
            if value:
                raise ConfigurationError(f"{name} goes with --backbone. Received: {value}, and no backbone.")
        return None
    if options.architecture is not None:
        raise ConfigurationError(
            "Give either --backbone or --architecture, one of them. "
            f"Received: {options.backbone}, {options.architecture}."
        )
    if options.channels not in (None, 3):
        raise ConfigurationError(f"A backbone takes images in colour, of 3 channels. Received: {options.channels}.")
    if options.finetune < 0:
        raise ConfigurationError(f"--finetune must be at least 0. Received: {options.finetune}.")
    size = None if options.image_size is None else central_size(options.image_size)
    return load_backbone(options.backbone, size=size, input_range=options.input_range)
