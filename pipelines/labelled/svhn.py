"""SVHN's cropped digits: MATLAB files with X, the pictures, and y, the digits, 10 for zero."""

import zlib
from typing import Any

import numpy as np

from pipelines.labelled.pictures import Labelled, fitted
from pipelines.sources.record import SourceError

CLASSES = tuple("0123456789")
_ZERO = 10


def read_svhn(path: str, size_px: int, channels: int) -> Labelled:
    """The pictures of train_32x32.mat, test_32x32.mat or extra_32x32.mat; a label is the digit.

    In the file X is uint8[H, W, 3, N], and y is uint8[N, 1] with 1..9, and 10 for the digit 0.

    Raises:
        SourceError: it is no MATLAB file before 7.3, or holds something else.
    """
    values = _variables(path)
    missing = [name for name in ("X", "y") if name not in values]
    if missing:
        raise SourceError(f"{path} holds no {' and no '.join(missing)}; name an SVHN file, such as train_32x32.mat")
    images, digits = np.asarray(values["X"]), np.asarray(values["y"]).reshape(-1)
    if images.ndim == 3:  # MATLAB drops a last dimension of 1
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3:
        raise SourceError(f"{path}: X is {images.dtype}{list(images.shape)}, and SVHN's is uint8[32, 32, 3, N]")
    if len(digits) != images.shape[3]:
        raise SourceError(f"{path} has {len(digits)} labels for {images.shape[3]} pictures; fetch it again")
    if not len(digits):
        raise SourceError(f"{path} holds no pictures; fetch it again")
    strange = ~np.isin(digits, np.arange(1, _ZERO + 1))
    if strange.any():
        raise SourceError(
            f"{path}: y holds {digits[strange][0]}, and SVHN's labels are 1..{_ZERO}, {_ZERO} for the digit 0; "
            "fetch it again"
        )
    rows = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    return Labelled(fitted(rows, size_px, channels), digits.astype(np.int64) % _ZERO, CLASSES)


def _variables(path: str) -> dict[str, Any]:
    import scipy.io  # much memory, for few who import this module

    try:
        # No object is ever made of what the file says: loadmat knows numbers, texts, cells and structures alone.
        return dict(scipy.io.loadmat(path, variable_names=("X", "y"), appendmat=False))
    except NotImplementedError as error:
        raise SourceError(
            f"{path} is a MATLAB 7.3 file (HDF5), which is not read here; save it in MATLAB with -v7, or fetch SVHN's "
            "own, which is older"
        ) from error
    except FileNotFoundError as error:
        raise SourceError(f"{path} is not there; name an SVHN file, such as train_32x32.mat") from error
    except (OSError, ValueError, TypeError, KeyError, zlib.error, scipy.io.matlab.MatReadError) as error:
        raise SourceError(f"{path} can't be read as a MATLAB file ({error}); fetch it again") from error
