"""Image sides under repeated halving, rounded up as `same` padding does, and the way back."""

from typing import Any

from keras import layers

Size = tuple[int, int]


def halvings(size: Size, count: int) -> list[Size]:
    """Return `size` and what it becomes after each of `count` halvings: 28 → [28, 14, 7, 4]."""
    sizes = [size]
    for _ in range(count):
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def crop_to(tensor: Any, size: Size, *, name: str) -> Any:
    """Cut the surplus row or column that doubling an odd side's half leaves: 4 → 8 → 7."""
    height, width = tensor.shape[1:3]
    if (height, width) == size:
        return tensor
    return layers.Cropping2D(((0, height - size[0]), (0, width - size[1])), name=name)(tensor)
