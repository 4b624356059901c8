"""The loaders' benchmark: a peer that fails is left out; without ours or the floor there is nothing to compare."""

import sys
from pathlib import Path

import pytest
from rich.console import Console
from shard_fixture import draw_images, write_shards

from manifests.store import Folder


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> object:
    """The script, imported; it changes the first place of the path."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    from benchmarks import loading

    return loading


def test_what_all_are_compared_with_is_told_of_where_it_fails(
    loading: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.loading import measure, run

    console = Console(quiet=True)
    # No tar and no index: every loader fails in its own process.
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "train-000000.tar").write_bytes(b"no tar" * 1000)
    for name in ("ours", "floor"):
        with pytest.raises(SystemExit, match=f"{name} failed, and all others are compared with it: mend what"):
            run(name, sys.executable, tmp_path)
    assert run("webdataset", sys.executable, tmp_path) is None
    assert "webdataset failed; it is left out" in capfd.readouterr().err
    with pytest.raises(SystemExit, match="floor failed, and all"):
        measure(tmp_path, {}, 1, console)


def test_the_floor_decodes_what_the_tars_hold(loading: object, tmp_path: Path) -> None:
    from benchmarks.loader_data import decode, encoded
    from benchmarks.loading import measure

    images = draw_images(6, size_px=64)
    write_shards(Folder(tmp_path / "tars"), images, per_shard=4)
    assert [decode(data).tolist() for data in encoded(tmp_path)] == [image.tolist() for image in images]
    figures = measure(tmp_path, {"webdataset": sys.executable}, 1, Console(quiet=True))
    assert figures["floor"]["samples_per_s"] > 0
