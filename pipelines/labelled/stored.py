"""Pictures in a folder or a tar, as squares of one size, or the faces that are in them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from manifests import images
from pipelines import faces
from pipelines.faces import FaceSettings
from pipelines.labelled.pictures import decoded, fitted
from pipelines.sources.folder import FolderSource
from pipelines.sources.record import PartRange, SourceError
from pipelines.sources.tar import TarSource

Pixels = npt.NDArray[np.uint8]

_ALL = 1 << 40
_LIMITS = images.Limits()


@dataclass(frozen=True)
class Stored:
    """The files below a folder or in a tar, but hidden ones, in order. keys: the path of each below it."""

    source: FolderSource | TarSource
    part: PartRange
    keys: tuple[str, ...]

    @classmethod
    def listed(cls, path: str) -> "Stored":
        """All files of a folder or tar.

        Raises:
            SourceError: there is nothing, or nothing that may be read.
        """
        at = Path(path)
        if "://" in path or not at.exists():
            raise SourceError(f"{path}: no such folder or tar; pictures with attributes are local or mounted files")
        source: FolderSource | TarSource
        if at.is_dir():
            source = FolderSource(kind="folder", name="attributes", path=path)
        else:
            source = TarSource(kind="tar", name="attributes", path=path)
        (part,) = source.ranges(_ALL)
        return cls(source, part, tuple(source.told(part, entry).key for entry in part.names))

    def pictures(
        self, wanted: Collection[str], size_px: int, channels: int, cut: FaceSettings | None
    ) -> tuple[list[str], Pixels, list[str]]:
        """Keys and pictures of the wanted files that give one, and why the others give none.

        images: uint8[N, size_px, size_px, channels]; the largest centred squares, or with `cut` the one face of each.

        Raises:
            ModelError: the face detector's model is missing.
        """
        model = faces.load_model(cut) if cut is not None else None
        entries = [name for name, key in zip(self.part.names, self.keys, strict=True) if key in wanted]
        pixels, kept, left_out = bytearray(), [], []
        for record in self.source.read(PartRange(len(entries), self.part.start, tuple(entries))):
            if record.data is None:
                left_out.append(f"{record.key}: {record.problem}")
                continue
            try:
                if cut is None:
                    square = decoded(record.data, size_px, channels)
                else:
                    square = fitted(_face(record.data, size_px, cut, model)[None], size_px, channels)
            except (images.ImageError, cv2.error, _NoFaceError) as error:
                left_out.append(f"{record.key}: {error}")
            else:
                pixels += square.tobytes()
                kept.append(record.key)
        return kept, np.frombuffer(pixels, np.uint8).reshape(-1, size_px, size_px, channels), left_out


class _NoFaceError(Exception):
    """A picture of which no face can be taken."""


def _face(data: bytes, size_px: int, settings: FaceSettings, model: bytes | None) -> Pixels:
    """The one face, cut out as ingest cuts it."""
    header = images.read_header(data, _LIMITS)
    image = images.decode_rgb(data, header, faces.decoded_side_px(header, settings, size_px))
    cuts = faces.cut_faces(image, settings, size_px, model, round(header.width / image.shape[1]))
    found = [cut.image for cut in cuts if cut.image is not None and cut.reason is None]
    if len(found) == 1:
        return found[0]
    why = f"{len(found)} faces, and what is said could be of any" if found else "no face that is kept"
    refused = {cut.reason.value for cut in cuts if cut.reason is not None}
    raise _NoFaceError(why + (f" ({', '.join(sorted(refused))})" if refused and not found else ""))
