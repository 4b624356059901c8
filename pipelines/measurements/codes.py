"""The 128-bit codes of images, by the autoencoder of a run."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dedup.autoencoder import ENCODER_FILE, load_encoder
from dedup.codes import encode
from manifests.perceptual import thumbs
from manifests.schema import THUMB_BYTES
from manifests.store import Folder
from training.samples import Images

_CHUNK_IMAGES = 4096


def image_codes(folder: Folder) -> Callable[[Images], npt.NDArray[np.uint64]]:
    """A function from images to codes: uint8[N, H, W, C], square, RGB or grey -> uint64[N, 2].

    Departs: the codes in the folder are of whole source images; these are of training images, whose side is smaller, so
    that samples and training images are looked at alike. A code may differ in a few bits from the one in the folder.

    folder: RUN/codes.

    Raises:
        ValueError: the folder holds no sound encoder.
    """
    encoder = load_encoder(folder.read_bytes(ENCODER_FILE))

    def codes(images: Images) -> npt.NDArray[np.uint64]:
        found = [np.empty((0, 2), np.uint64)]
        for start in range(0, len(images), _CHUNK_IMAGES):
            chunk = images[start : start + _CHUNK_IMAGES]
            colour = np.repeat(chunk, 3, axis=3) if chunk.shape[3] == 1 else chunk
            small = np.stack([thumbs(np.ascontiguousarray(image))[0] for image in colour])
            found.append(encode(encoder, small.reshape(-1, THUMB_BYTES)))
        return np.concatenate(found)

    return codes
