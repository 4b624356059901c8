"""The checkpoint that a command is given, and the empty folder that it writes into."""

from typing import Annotated

import pyarrow.fs as pa_fs
import typer

from manifests.store import Folder
from training import checkpoint

CheckpointName = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint, such as RUN/training/checkpoints/checkpoint-000012800: a path or a URI",
    ),
]
_WHERE = ("", "checkpoints", "best", "training/checkpoints", "training/best")
_NAMED = 5


class NoCheckpoint(Exception):
    """What was named is no checkpoint."""


def read_checkpoint(address: str) -> checkpoint.Checkpoint:
    """The checkpoint at a path or a URI.

    Raises:
        NoCheckpoint: the name is not that of one, or there is no state.json; the message names those nearby.
        DamagedCheckpoint: it is one, and a file of it is cut short, altered or absent.
    """
    own = Folder(address)
    head, _, name = own.address.rpartition("/")
    beside = Folder(head or "/")
    # Said before it is read: what is wrong with a checkpoint is told with the advice to delete it.
    if checkpoint.images_of(name) >= 0 and _is_folder(own) and own.exists(checkpoint.STATE):
        return checkpoint.load(beside, name)
    found = [folder.child(one) for at in _WHERE for folder in [own.child(at) if at else own] for one in _names(folder)]
    found = found or [beside.child(one) for one in _names(beside)]
    what = f"{own} is no checkpoint, which is a folder {checkpoint.name_of(12_800)[:-9]}N with {checkpoint.STATE}"
    if not found:
        raise NoCheckpoint(f"{what}, and there is none in it or beside it; name one of RUN/training/checkpoints")
    raise NoCheckpoint(f"{what}; those here are {', '.join(map(str, found[-_NAMED:]))}")


def check_empty(out: Folder) -> None:
    """Raise FileExistsError where a folder to write is there and holds something, or is a file."""
    kind = out.filesystem.get_file_info(out.path()).type
    if kind == pa_fs.FileType.File or (kind == pa_fs.FileType.Directory and (out.names() or out.folders())):
        raise FileExistsError(f"{out} is there already; delete it or name another")


def _names(folder: Folder) -> list[str]:
    return checkpoint.names(folder) if _is_folder(folder) else []


def _is_folder(folder: Folder) -> bool:
    return bool(folder.filesystem.get_file_info(folder.path()).type == pa_fs.FileType.Directory)
