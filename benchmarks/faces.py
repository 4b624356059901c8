"""How many faces are found, how many that are none, and how fast: both detectors, on the photos of shared/data.

    python benchmarks/faces.py --data DIR [--model FILE] [--hits DIR]

Found: an image of GENKI with a face that the recipe's settings do not refuse as too small, unsure or false. Inside: the
middle of such a face lies in the true box of a Caltech photo. False: a bedroom with such a face that is none. Some
bedrooms show people: benchmarks/bedroom_people.json holds, by the sha256 of the file, the boxes of faces that were
looked at and are true. `--hits` writes the others to a folder, to be looked at.

Speed is that of one core on pictures that are decoded already, GENKI, Caltech and 500 bedrooms: our function, with all
that it does (shrinking, merging, second check, crops), against the bare detector on the full-size image, by turns.
"""

import argparse
import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console

# Run as a script, this folder comes first on the path, and its dedup.py would stand in for the package.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from manifests import images
from manifests.schema import Reason
from pipelines import yunet
from pipelines.detectors import Detector, haar_file
from pipelines.faces import Cut, FaceSettings, cut_faces
from pipelines.progress import Reporter
from pipelines.recipe import load_recipe

PEOPLE_FILE = Path(__file__).with_name("bedroom_people.json")
IMAGE_PX = 64
BEDROOMS = 2000
_NO_FACE = (Reason.FACE_TOO_SMALL, Reason.FACE_UNSURE, Reason.FACE_FALSE)

Pixels = npt.NDArray[np.uint8]
Boxes = list[list[int]]


def photos(tar: Path, most: int | None = None) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the images of a tar, in order of name."""
    with tarfile.open(tar) as opened:
        members = sorted((m for m in opened if m.isfile() and m.name.endswith(".jpg")), key=lambda m: m.name)
        for member in members[:most]:
            file = opened.extractfile(member)
            assert file is not None
            yield Path(member.name).name, file.read()


def true_boxes(tar: Path) -> dict[str, Boxes]:
    """The true box of each Caltech photo."""
    with tarfile.open(tar) as opened:
        name = next(m for m in opened if Path(m.name).name == "boxes.json")
        file = opened.extractfile(name)
        assert file is not None
        described: dict[str, Any] = json.load(io.TextIOWrapper(file))
    return {name: [entry["box_xywh"]] for name, entry in described.items()}


def decoded(data: bytes) -> Pixels:
    """The picture, at full size."""
    return images.decode_rgb(data, images.read_header(data, images.Limits()))


def wanted(cuts: Sequence[Cut]) -> list[Cut]:
    """Those that are taken for faces, whether or not their squares lie inside of the image."""
    return [cut for cut in cuts if cut.reason not in _NO_FACE]


def within(cut: Cut, boxes: Boxes) -> bool:
    """Whether the middle of a face lies in one of the boxes."""
    left, top, width, height = cut.box_px
    x, y = left + width / 2, top + height / 2
    return any(a <= x <= a + w and b <= y <= b + h for a, b, w, h in boxes)


def bare(detector: Detector, model: bytes | None) -> Callable[[Pixels], object]:
    """The detector as its own examples use it, on the full-size image."""
    if detector == "haar":
        cascade = cv2.CascadeClassifier(str(haar_file()))
        return lambda image: cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 1.1, 3)
    network = cv2.FaceDetectorYN.create(
        "onnx", np.frombuffer(model or b"", np.uint8), np.empty(0, np.uint8), (320, 320), 0.8
    )

    def detect(image: Pixels) -> object:
        network.setInputSize((image.shape[1], image.shape[0]))
        return network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))

    return detect


def speeds(ours: Callable[[Pixels], object], theirs: Callable[[Pixels], object], held: list[Pixels]) -> list[float]:
    """Images per second of either, in turns of 50 pictures, since machines drift."""
    for work in (ours, theirs):
        for image in held[:10]:
            work(image)
    seconds = [0.0, 0.0]
    for start in range(0, len(held), 50):
        for place, work in enumerate((ours, theirs)):
            began = time.perf_counter()
            for image in held[start : start + 50]:
                work(image)
            seconds[place] += time.perf_counter() - began
    return [len(held) / spent for spent in seconds]


def measure(
    settings: FaceSettings, model: bytes | None, data: Path, hits: Path | None, reporter: Reporter
) -> dict[str, float]:
    """The figures of one detector."""

    def cut(image: Pixels) -> list[Cut]:
        return cut_faces(image, settings, IMAGE_PX, model)

    truth, people = true_boxes(data / "caltech_faces.tar"), json.loads(PEOPLE_FILE.read_text("utf-8"))
    outcomes: dict[str, list[bool]] = {"genki_found": [], "caltech_inside": [], "bedrooms_false": []}
    kept: list[bool] = []
    held: list[Pixels] = []
    with reporter.bar(settings.detector, 4000 + len(truth) + BEDROOMS) as bar:
        for number, (_, photo) in enumerate(photos(data / "genki4k.tar")):
            image = decoded(photo)
            cuts = cut(image)
            outcomes["genki_found"].append(bool(wanted(cuts)))
            kept.append(any(one.reason is None for one in cuts))
            held += [image] * (number % 8 == 0)
            bar.advance(1)
        for name, photo in photos(data / "caltech_faces.tar"):
            image = decoded(photo)
            outcomes["caltech_inside"].append(any(within(one, truth[name]) for one in wanted(cut(image))))
            held.append(image)
            bar.advance(1)
        for number, (name, photo) in enumerate(photos(data / "bedrooms.tar", BEDROOMS)):
            image = decoded(photo)
            digest = hashlib.sha256(photo).hexdigest()
            strange = [one for one in wanted(cut(image)) if not within(one, people.get(digest, []))]
            outcomes["bedrooms_false"].append(bool(strange))
            held += [image] * (number % 4 == 0)
            bar.advance(1)
            if hits is not None and strange:
                _write_hit(hits / f"{settings.detector}-{name}-{digest}.png", image, strange)
        figures = {name: sum(of) / len(of) for name, of in outcomes.items()}
        figures["genki_kept"] = sum(kept) / len(kept)
    figures["images_per_s_core"], figures["bare_images_per_s_core"] = speeds(cut, bare(settings.detector, model), held)
    return figures


def _write_hit(path: Path, image: Pixels, strange: list[Cut]) -> None:
    drawn = image.copy()
    for one in strange:
        left, top, width, height = one.box_px
        cv2.rectangle(drawn, (left, top), (left + width, top + height), (0, 255, 0), 1)
        print(path.name, one.box_px, round(one.score, 3), file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_image(drawn, "png"))


def main() -> None:
    """Measure both detectors and print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="the folder of genki4k.tar, caltech_faces.tar ...")
    parser.add_argument("--model", help="YuNet's file; default: that in DATA, or the one in the cache")
    parser.add_argument("--hits", type=Path, help="a folder for bedrooms with false faces, to look at")
    parser.add_argument("--detectors", default="yunet,haar", help="which, with commas")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    beside = options.data / yunet.FILE_NAME
    model = yunet.load_model(options.model or (str(beside) if beside.exists() else None), yunet.SHA256)
    recipe = load_recipe("faces").ingest.faces
    assert recipe is not None
    chosen: list[Literal["yunet", "haar"]] = options.detectors.split(",")
    figures = {}
    with Reporter(Console(stderr=True)) as reporter:
        for detector in chosen:
            settings = FaceSettings.model_validate(
                recipe.model_dump()
                | {"detector": detector}
                | ({} if detector == recipe.detector else {"score_min": None})
            )
            found = measure(settings, model if detector == "yunet" else None, options.data, options.hits, reporter)
            figures[detector] = {name: round(value, 4 if value <= 1 else 1) for name, value in found.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
