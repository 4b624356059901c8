"""The file of the YuNet face detector: where it lies, whether it is the one that is asked for, and how it is had.

Nothing is downloaded but by `dcgan faces --get-model`.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from manifests.store import Folder

FILE_NAME = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
URL = f"https://github.com/opencv/opencv_zoo/raw/main/models/face_detection_yunet/{FILE_NAME}"
URL_VARIABLE = "DCGAN_FACE_MODEL_URL"

_MOST_BYTES = 64 * 2**20
_TIMEOUT_S = 60


class ModelError(Exception):
    """A face model that is missing, or is not the one that was asked for."""


def cached_path() -> Path:
    """Where the model lies unless a recipe says otherwise: dcgan/ in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME")  # to be ignored unless it is absolute, says its specification
    folder = Path(cache) if cache and Path(cache).is_absolute() else Path.home() / ".cache"
    return folder / "dcgan" / FILE_NAME


def load_model(path: str | None, sha256: str) -> bytes:
    """The model's bytes, from `path` or the cache.

    Raises:
        ModelError: there is no such file, or another one lies there; the message names the command that mends it.
    """
    place = cached_path() if path is None else Path(path)
    mend = (
        "get it once with: dcgan faces --get-model (or install a copy: dcgan faces --get-model FILE)"
        if path is None
        else "mend ingest.faces.model, or leave it out and get the model once with: dcgan faces --get-model"
    )
    try:
        data = place.read_bytes()
    except OSError as error:
        raise ModelError(f"{place}: the YuNet face model can't be read ({error.strerror}); {mend}") from error
    _check(data, sha256, str(place), mend)
    return data


def get_model(file: Path | None = None) -> Path:
    """Put the model into the cache, from a local copy or from its home on the web, and return where it lies.

    The environment variable DCGAN_FACE_MODEL_URL names another address, such as a mirror's.

    Raises:
        ModelError: the address does not answer, or what it gave is not the model. Nothing is written then.
        OSError: the local copy can't be read, or the cache can't be written.
    """
    origin = os.environ.get(URL_VARIABLE, URL) if file is None else str(file)
    data = _downloaded(origin) if file is None else file.read_bytes()
    _check(data, SHA256, origin, "take the file of the OpenCV model zoo")
    place = cached_path()
    Folder(place.parent).write_bytes(place.name, data)
    return place


def _check(data: bytes, sha256: str, origin: str, mend: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(f"{origin}: not the model that is asked for: sha256 {found}, expected {sha256}; {mend}")


def _downloaded(url: str) -> bytes:
    if not url.startswith(("https://", "http://")):
        raise ModelError(f"{url}: no web address; name a local copy as dcgan faces --get-model FILE")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http and https alone
            data: bytes = answer.read(_MOST_BYTES + 1)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise ModelError(
            f"{url}: can't be downloaded ({reason}); download it elsewhere and install it with: "
            "dcgan faces --get-model FILE"
        ) from error
    if len(data) > _MOST_BYTES:
        raise ModelError(f"{url}: over {_MOST_BYTES} bytes, which the model is not; set {URL_VARIABLE} right")
    return data
