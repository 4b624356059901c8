"""dcgan faces: what it draws and says, and how the model gets into the cache; the web is a server in this process."""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from drawn_faces import blank, draw_face
from odd_images import file_of
from PIL import Image

from pipelines import yunet
from pipelines.__main__ import main

MODEL = b"the network's weights" * 1000


class Ended(NamedTuple):
    """How a command ended: its status, and what it said, each run of blanks and frames as one space."""

    status: int
    out: str
    err: str


Faces = Callable[..., Ended]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; what stands for the model is MODEL."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(yunet, "SHA256", hashlib.sha256(MODEL).hexdigest())
    return tmp_path / "cache" / "dcgan" / yunet.FILE_NAME


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Faces:
    """The command, called in this process."""
    monkeypatch.setenv("COLUMNS", "240")

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dcgan", "faces", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        out, err = (" ".join(text.replace("│", " ").split()) for text in captured)
        return Ended(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two faces, one at the edge; no face; and no image."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    two = blank(500, 240)
    draw_face(two, 150, 120, 80)
    draw_face(two, 440, 120, 80)
    (folder / "two.png").write_bytes(file_of(Image.fromarray(two), "PNG"))
    (folder / "more" / "none.jpg").write_bytes(file_of(Image.fromarray(blank(200, 100)), "JPEG"))
    (folder / "text.jpg").write_bytes(b"no picture")
    return folder


def pixels(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(path).convert("RGB"), np.uint8)


def test_boxes_are_drawn_where_faces_are_and_refusals_are_told(faces: Faces, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    ended = faces(photos, "--out", out, "--detector", "haar", "--margin", 0.4, "--edge", "drop")
    assert ended.status == 0, ended.err
    assert "2 faces in 3 images, 1 kept" in ended.out
    assert "text.jpg: not_an_image" in ended.out
    assert "0000-none.png: no face" in ended.out
    assert "face_at_edge (its square of" in ended.out
    assert sorted(path.name for path in out.iterdir()) == ["0000-none.png", "0002-two.png"]
    drawn, source = pixels(out / "0002-two.png").astype(int), pixels(photos / "two.png").astype(int)
    changed = np.abs(drawn - source).max(axis=2) > 30
    green, red = (changed & (drawn[..., way] > 150) & (drawn[..., 1 - way] < 120) for way in (1, 0))
    across = np.nonzero(green)[1]
    assert 40 < across.min() < across.max() < 260, "the kept one, left"
    assert np.nonzero(red)[1].min() > 300, "the refused one, right"
    np.testing.assert_array_equal(pixels(out / "0000-none.png"), pixels(photos / "more" / "none.jpg"))
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before


def test_a_recipes_settings_are_taken_and_may_be_replaced(faces: Faces, photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "own.yaml"
    recipe.write_text(
        "name: own\nsources: [{name: a, kind: folder, path: nowhere}]\n"
        "ingest: {faces: {detector: haar, score_min: 500}}\ntrain: {epochs: 1}\n"
    )
    refused = faces(photos / "two.png", "--out", tmp_path / "out", "--recipe", recipe)
    assert "2 faces in 1 images, 0 kept" in refused.out
    assert "score_min is 500" in refused.out
    assert "2 kept" in faces(photos / "two.png", "--out", tmp_path / "out", "--recipe", recipe, "--score-min", 5).out


def test_what_can_not_be_is_one_message(faces: Faces, photos: Path, tmp_path: Path, cache: Path) -> None:
    for words, said in (
        ((photos, "--out", tmp_path / "out"), "get it once with: dcgan faces --get-model"),
        ((photos, "--out", tmp_path / "out", "--detector", "dlib"), "dcgan faces: detector: Input should be"),
        ((photos, "--out", tmp_path / "out", "--detector", "haar", "--score-min", 1), "haar gives no score below 3"),
        ((photos,), "give images and --out DIR, or --get-model"),
        (("--out", tmp_path / "out"), "give images and --out DIR, or --get-model"),
        ((tmp_path / "nothing.jpg", "--detector", "haar", "--out", tmp_path / "out"), "No such file"),
        (("--get-model", tmp_path / "nothing.onnx"), "No such file"),
    ):
        ended = faces(*words)
        assert ended.status == 2
        assert said in ended.err
        assert "Traceback" not in ended.err
    assert not cache.exists()


def test_a_local_copy_is_installed_only_if_it_is_the_model(faces: Faces, tmp_path: Path, cache: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(MODEL[:-1])
    ended = faces("--get-model", copy)
    assert ended.status == 2
    assert f"{copy}: not the model that is asked for: sha256" in ended.err
    assert not cache.exists()
    copy.write_bytes(MODEL)
    ended = faces("--get-model", copy)
    assert (ended.status, cache.read_bytes()) == (0, MODEL)
    assert str(cache) in ended.out
    assert yunet.load_model(None, yunet.SHA256) == MODEL


class Web(BaseHTTPRequestHandler):
    """Gives the model, other bytes, half of it, or nothing."""

    def do_GET(self) -> None:
        """Answer as the path says."""
        if self.path == "/redirected":
            self.send_response(302)
            self.send_header("Location", "/model")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/absent" else 200)
        self.send_header("Content-Length", str(len(MODEL)))
        self.end_headers()
        body = {"/model": MODEL, "/other": MODEL[::-1], "/half": MODEL[:5000]}.get(self.path, b"x" * len(MODEL))
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine, reached without a proxy."""
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_model_is_downloaded_when_it_is_asked_for(
    faces: Faces, web: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, said in (
        ("/other", "not the model that is asked for"),
        ("/half", "can't be downloaded|not the model that is asked for"),
        ("/absent", "can't be downloaded"),
    ):
        monkeypatch.setenv(yunet.URL_VARIABLE, web + path)
        ended = faces("--get-model")
        assert ended.status == 2
        assert any(words in ended.err for words in said.split("|"))
        assert web + path in ended.err
        assert not cache.exists()
    for path in ("/model", "/redirected"):
        monkeypatch.setenv(yunet.URL_VARIABLE, web + path)
        assert faces("--get-model").status == 0
        assert cache.read_bytes() == MODEL
        cache.unlink()


@pytest.mark.parametrize("address", ["file:///etc/hosts", "ftp://127.0.0.1/model", "/etc/hosts"])
def test_only_the_web_is_downloaded_from(
    faces: Faces, address: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(yunet.URL_VARIABLE, address)
    ended = faces("--get-model")
    assert ended.status == 2
    assert f"{address}: no web address" in ended.err
    assert not cache.exists()
