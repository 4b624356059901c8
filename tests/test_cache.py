"""Shards of an object store on their way through the local cache: fetched once, kept while used, bounded, cleared."""

import contextlib
import hashlib
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from shard_fixture import Elsewhere, draw_images, write_shards

from manifests.store import Folder
from training.batches import LoaderSettings, open_batches
from training.cache import ShardCache
from training.order import SampleOrder, Share
from training.reading import DamagedShard, ShardReader

IMAGES = draw_images(60)
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shards"))
    write_shards(folder, IMAGES, per_shard=5)
    return folder


def _used_bytes(place: Path) -> int:
    found = 0
    for path in place.rglob("*.tar"):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            found += path.stat().st_size
    return found


def test_every_shard_is_fetched_once_where_all_fit(shards: Folder, tmp_path: Path) -> None:
    elsewhere, place = Elsewhere(shards.address), tmp_path / "cache"
    reader = ShardReader(elsewhere, 32)
    order = SampleOrder(reader.shard_samples, 2, 15)
    how = LoaderSettings(loaders=2, cache_folder=str(place))
    with open_batches(reader, order, range(40), Share(8), how) as batches:
        for _, images, samples in batches:
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), IMAGES[samples])
    assert Counter(elsewhere.opened) == Counter(reader.shards)
    assert list(place.iterdir()) == []


def test_a_small_cache_stays_small_and_fetches_again(shards: Folder, tmp_path: Path) -> None:
    elsewhere, place = Elsewhere(shards.address), tmp_path / "cache"
    reader = ShardReader(elsewhere, 32)
    order = SampleOrder(reader.shard_samples, 2, 10)
    limit = 6 * max(shards.size_bytes(shard) for shard in reader.shards)  # of three windows, as two batches can take
    how = LoaderSettings(loaders=2, ahead_batches=1, cache_folder=str(place), cache_gb=limit / 1e9)
    used = []
    with open_batches(reader, order, range(60), Share(4), how) as batches:
        for _, images, samples in batches:
            used.append(_used_bytes(place))
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), IMAGES[samples])
    assert 0 < max(used) <= limit
    assert len(elsewhere.opened) > len(reader.shards)


def test_a_cache_that_holds_no_window_is_refused(shards: Folder) -> None:
    reader = ShardReader(Elsewhere(shards.address), 32)
    order = SampleOrder(reader.shard_samples, 2, 30)
    with (
        pytest.raises(ValueError, match=r"cache_gb=1e-05 is less than a window's shards \(.* GB\); raise cache_gb or"),
        open_batches(reader, order, range(60), Share(4), LoaderSettings(cache_gb=1e-5)),
    ):
        pass


def _cache(shards: Folder, place: Path, limit_bytes: int = 10**9) -> ShardCache:
    return ShardCache(shards, {name: shards.size_bytes(name) for name in shards.names()[1:]}, place, limit_bytes)


def test_two_workers_share_what_is_fetched(shards: Folder, tmp_path: Path) -> None:
    elsewhere, place = Elsewhere(shards.address), tmp_path / "cache"
    names = [f"train-{i:06d}.tar" for i in range(6)]
    with _cache(elsewhere, place) as one:
        with _cache(elsewhere, place) as other:
            one.want(names, [])
            other.want(names, [])
            one.wait(names)
            other.wait(names)
            assert sorted(elsewhere.opened) == names
        assert all(one.path(name).exists() for name in names)  # still in use by one
    assert not place.exists()


def test_what_another_worker_uses_is_not_deleted(shards: Folder, tmp_path: Path) -> None:
    names = [f"train-{i:06d}.tar" for i in range(4)]
    size = max(shards.size_bytes(name) for name in names)
    with _cache(shards, tmp_path / "cache", 2 * size) as one, _cache(shards, tmp_path / "cache", 2 * size) as other:
        one.want(names[:1], [])
        one.wait(names[:1])
        for name in names[1:]:
            other.want([name], [])
            other.wait([name])
        assert one.path(names[0]).exists()
        assert not other.path(names[1]).exists()
        assert other.path(names[3]).exists()


def test_shards_ahead_wait_for_room(shards: Folder, tmp_path: Path) -> None:
    names = [f"train-{i:06d}.tar" for i in range(6)]
    size = max(shards.size_bytes(name) for name in names)
    with _cache(shards, tmp_path / "cache", 3 * size) as cache:
        cache.want(names[:2], names[2:])
        assert sorted(cache._held) == names[:3]
        cache.want(names[2:4], [])
        assert sorted(cache._held) == names[2:4]
        cache.wait(names[2:4])
        assert cache.has(names[2:4])


class _CutShort(Elsewhere):
    """A store in which a shard comes cut short."""

    def open_input(self, name: str):  # type: ignore[no-untyped-def]
        file = super().open_input(name)

        class Short:
            def __enter__(self):  # type: ignore[no-untyped-def]
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def size(self) -> int:
                return int(file.size())

            def read(self, count: int) -> bytes:
                return b"" if file.tell() else bytes(file.read(1000))

        return Short()


def test_a_shard_that_comes_cut_short_is_an_error(shards: Folder, tmp_path: Path) -> None:
    name = "train-000003.tar"
    with _cache(_CutShort(shards.address), tmp_path / "cache") as cache:
        cache.want([name], [])
        with pytest.raises(DamagedShard, match=r"train-000003\.tar: expected \d+ bytes, got 1000; run"):
            cache.wait([name])
        assert not cache.path(name).exists()


def test_a_shard_that_is_gone_is_an_error(shards: Folder, tmp_path: Path) -> None:
    with _cache(shards, tmp_path / "cache") as cache:
        cache._sizes["none.tar"] = 1
        cache.want(["none.tar"], [])
        with pytest.raises(FileNotFoundError, match=r"none\.tar"):
            cache.wait(["none.tar"])


KILLED = """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, "tests")
    from test_cache import _cache
    from manifests.store import Folder

    with _cache(Folder(sys.argv[1]), Path(sys.argv[2])) as cache:
        cache.want(["train-000000.tar", "train-000001.tar"], [])
        cache.wait(["train-000000.tar", "train-000001.tar"])
        (cache.place / ".train-000002.tar.part").write_bytes(b"half of it")
        (cache.place / ".train-000002.tar.lock").touch()
        print("held", flush=True)
        time.sleep(50)
"""


def test_a_worker_that_is_killed_holds_nothing_back(shards: Folder, tmp_path: Path) -> None:
    place, root = tmp_path / "cache", Path(__file__).parent.parent
    command = [sys.executable, "-c", textwrap.dedent(KILLED), shards.address, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        killed.send_signal(signal.SIGKILL)
    elsewhere = Elsewhere(shards.address)
    names = [f"train-{i:06d}.tar" for i in range(3)]
    with _cache(elsewhere, place) as cache:
        cache.want(names, [])
        cache.wait(names)
        assert elsewhere.opened == [names[2]]  # the others are there already
        for name in names:
            digests = [
                hashlib.sha256(data).digest() for data in (cache.path(name).read_bytes(), shards.read_bytes(name))
            ]
            assert digests[0] == digests[1]
    assert not place.exists()


def test_what_a_killed_worker_left_half_done_takes_no_room(shards: Folder, tmp_path: Path) -> None:
    names = [f"train-{i:06d}.tar" for i in range(2)]
    size = max(shards.size_bytes(name) for name in names)
    with _cache(shards, tmp_path / "cache", 2 * size) as cache:
        left = cache.place / ".train-000007.tar.part"
        left.write_bytes(bytes(size))
        (cache.place / ".train-000007.tar.lock").touch()
        cache.want(names, [])
        cache.wait(names)
        assert not left.exists()


def test_closing_does_not_wait_for_what_another_worker_fetches(shards: Folder, tmp_path: Path) -> None:
    one = _cache(shards, tmp_path / "cache")
    with _cache(shards, tmp_path / "cache") as other:
        with one, other._alone_with("train-000000.tar"):
            one.want(["train-000000.tar"], [])
            time.sleep(0.1)
            assert not one.has(["train-000000.tar"])
            began = time.monotonic()
            one.__exit__()
            assert time.monotonic() - began < 5
            one.__enter__()
        assert other.place.exists()


def test_a_folder_of_the_users_own_keeps_what_is_in_it(shards: Folder, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "thesis.txt").write_text("years of work")
    (tmp_path / "train-000000.tar").write_bytes(b"another data set's")
    reader = ShardReader(Elsewhere(shards.address), 32)
    order = SampleOrder(reader.shard_samples, 2, 10)
    limit = 6 * max(shards.size_bytes(shard) for shard in reader.shards)
    how = LoaderSettings(cache_folder=str(tmp_path), cache_gb=limit / 1e9, ahead_batches=1)
    with open_batches(reader, order, range(30), Share(4), how) as batches:
        for _, images, samples in batches:
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), IMAGES[samples])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sub", "thesis.txt", "train-000000.tar"]
    assert (tmp_path / "train-000000.tar").read_bytes() == b"another data set's"


class _Failing(Elsewhere):
    """A store that fails at the first so many openings of a shard."""

    def __init__(self, address: str, failures: int) -> None:
        super().__init__(address)
        self.failures = failures

    def open_input(self, name: str) -> pa.NativeFile:
        if self.failures > 0:
            self.failures -= 1
            raise OSError("the store timed out")
        return super().open_input(name)


def test_a_store_that_fails_is_told_in_its_own_words(shards: Folder, tmp_path: Path) -> None:
    reader = ShardReader(_Failing(shards.address, 10**6), 32)
    order = SampleOrder(reader.shard_samples, 2, 10)
    how = LoaderSettings(cache_folder=str(tmp_path))
    with pytest.raises(OSError, match="the store timed out"), open_batches(reader, order, range(9), Share(4), how) as b:
        list(b)
    with ShardCache(_Failing(shards.address, 1), {"train-000000.tar": 1}, tmp_path / "again", 10**9) as cache:
        cache.want(["train-000000.tar"], [])
        with pytest.raises(OSError, match="the store timed out"):
            cache.wait(["train-000000.tar"])
        cache.want(["train-000000.tar"], [])  # asked for once more, it is fetched once more
        cache.wait(["train-000000.tar"])
        assert cache.has(["train-000000.tar"])
