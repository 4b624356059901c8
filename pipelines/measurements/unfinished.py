"""What a measurement had measured when it was interrupted, kept beside it until it is finished."""

from dataclasses import dataclass
from typing import Any

from manifests.store import Folder


@dataclass(frozen=True)
class Unfinished:
    """Pieces of a measurement, in a hidden file that counts for one identity alone: another's are not gone on with."""

    folder: Folder
    name: str
    identity: str

    @property
    def _file(self) -> str:
        return f".{self.name}-unfinished.json"

    def pieces(self) -> dict[str, Any]:
        """The plain values that were kept, by name."""
        if not self.folder.exists(self._file):
            return {}
        kept = self.folder.read_json(self._file)
        return dict(kept["pieces"]) if kept["identity"] == self.identity else {}

    def keep(self, name: str, piece: Any) -> None:
        """Keep one more, at once."""
        pieces = self.pieces() | {name: piece}
        self.folder.write_json(self._file, {"identity": self.identity, "pieces": pieces})

    def delete(self) -> None:
        """Forget all of them; none is fine."""
        self.folder.delete(self._file)
