"""The code nominates a pair, the perceptual hash confirms it: the same picture or not."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dedup.neighbours import MOST_RADIUS


class VerdictSettings(BaseModel):
    """When two images count as the same picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    radius: int = Field(
        14,
        ge=0,
        le=MOST_RADIUS,
        description="code bits that two images may differ in; 0 is the paper's rule, equal codes",
    )
    phash_max: int | None = Field(
        12,
        ge=0,
        le=64,
        description="pHash bits that they may differ in, in the nearer orientation; null: code alone",
    )


@dataclass(frozen=True)
class Seen:
    """What de-duplication sees of N images.

    codes: uint64[N, 2]
    looks: uint64[N, 2], pHash of the whole image and of its mirror image
    flat: bool[N], too flat for the code to mean anything; such images are never judged the same as another
    """

    codes: npt.NDArray[np.uint64]
    looks: npt.NDArray[np.uint64]
    flat: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = self.codes.shape, self.looks.shape, self.flat.shape
        images = len(self.flat)
        if shapes != ((images, 2), (images, 2), (images,)):
            raise ValueError(
                f"codes, looks and flat are {shapes}, not (N, 2), (N, 2) and (N,); read them from the same rows"
            )

    def __len__(self) -> int:
        return len(self.flat)

    def of(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Seen":
        """The same of some rows: their numbers, or a mask."""
        return Seen(self.codes[rows], self.looks[rows], self.flat[rows])


def looks(phash: npt.NDArray[np.uint64], phash_mirror: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The two pHashes of each image side by side, uint64[N, 2]."""
    return np.stack([phash, phash_mirror], axis=1)


def same(
    settings: VerdictSettings,
    distance: npt.NDArray[np.uint8],
    first_looks: npt.NDArray[np.uint64],
    second_looks: npt.NDArray[np.uint64],
) -> npt.NDArray[np.bool_]:
    """Whether each pair shows the same picture, bool[P]; the two may be given in either order.

    distance: uint8[P], between their codes
    first_looks, second_looks: uint64[P, 2], of the pair's first and second image

    Radford et al. 2016, section 4.1.1, calls images with equal codes duplicates.
    Departs: codes may differ in a few bits, since equality alone misses most re-encoded and cropped copies; and pHash
    has a veto, since wrong pairs grow with the square of the images and the two hashes err on different ones.
    """
    near = distance <= settings.radius
    if settings.phash_max is None:
        return near
    return near & (look_distance(first_looks, second_looks) <= settings.phash_max)


def look_distance(first_looks: npt.NDArray[np.uint64], second_looks: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The smaller pHash distance of each pair, as it is or with one of the two mirrored, uint8[P], in bits."""
    straight = first_looks ^ second_looks
    crossed = first_looks ^ second_looks[:, ::-1]
    # Mirroring both is nearly, not quite, the same as mirroring neither: all four keep the verdict symmetric.
    return np.asarray(np.bitwise_count(np.concatenate([straight, crossed], axis=1)).min(axis=1), np.uint8)
