"""Nearest-neighbour classification: exact neighbours, errors that can be counted by hand, and its controls."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.labelled.classes import LabelledSettings
from pipelines.measurements import MEASUREMENTS, Given, Readiness
from pipelines.recipe import EvaluateSettings
from training.adversarial import new_players
from training.evaluation.measured import Subject, Unmeasurable
from training.evaluation.nearest import Nearest, NearestSettings, errors, generated, nearest_classification
from training.presets import resolve
from training.samples import CHUNK_IMAGES, Images
from training.snapshot import of_players

Labels = npt.NDArray[np.int64]


def _subject(seed: int = 4, classes: int = 10) -> Subject:
    players = new_players(resolve("mnist-28-conditional", width=2, classes=classes), 1, torch.device("cpu"))
    with torch.no_grad():  # a fresh generator is near grey: stretch what it draws
        players.generator.get_parameter("deconv3.weight").mul_(30)
    return Subject(of_players(players, seed=1, samples=100, update=7, seconds=1.0), seed)


def _digits(count: int, seed: int) -> tuple[Images, Labels]:
    """A bar at a row that its class sets, and noise: alike in a class, unlike between them."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = draw.integers(0, 60, (count, 28, 28, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[2 * label + 4 : 2 * label + 6] += 150
    return images, labels


def _plain(images: Images, others: Images) -> npt.NDArray[np.int64]:
    a, b = (x.reshape(len(x), -1).astype(np.int64) for x in (images, others))
    return np.asarray(np.square(a[:, None] - b[None]).sum(2))


@given(
    st.integers(1, 12),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([(1, 1, 1), (3, 2, 3), (28, 28, 1), (40, 40, 1), (64, 64, 3)]),
    st.sampled_from([2, 256]),
    st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_neighbours_are_those_of_a_plain_search(
    count: int, parts: list[int], shape: tuple[int, int, int], levels: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    step = 255 // (levels - 1)  # black and white alone make sums as large as can be, and many ties
    images, others = ((draw.integers(0, levels, (n, *shape)) * step).astype(np.uint8) for n in (count, sum(parts)))
    labels = draw.integers(0, 9, sum(parts))
    nearest, done = Nearest(images), 0
    for part in parts:
        nearest.add(others[done : done + part], labels[done : done + part])
        done += part
    distances = _plain(images, others)
    numbers = distances.argmin(1)  # the first of several that are as near
    np.testing.assert_array_equal(nearest.numbers, numbers)
    np.testing.assert_array_equal(nearest.distances, distances.min(1))
    np.testing.assert_array_equal(nearest.labels, labels[numbers])
    np.testing.assert_array_equal(nearest.images, others[numbers])


def test_neighbours_beyond_a_tile() -> None:
    images, _ = _digits(2100, 0)
    others = np.concatenate([images[::-1], images[:7]])
    nearest = Nearest(images)
    nearest.add(others, np.arange(len(others)))
    np.testing.assert_array_equal(nearest.numbers, 2099 - np.arange(2100))
    assert not nearest.distances.any()


def test_errors_are_those_of_the_first_so_many() -> None:
    test, truth = _digits(30, 1)
    others, labels = _digits(40, 2)
    labels = np.where(np.arange(40) < 20, labels, (labels + 1) % 10)

    def parts() -> Iterator[tuple[Images, Labels]]:
        for first in range(0, 40, 16):
            yield others[first : first + 16], labels[first : first + 16]

    nearest = Nearest(test)
    found = errors(parts(), [10, 20, 40, 40, 3], test, truth, nearest)
    assert list(found) == [3, 10, 20, 40]
    distances = _plain(test, others)
    for count, error in found.items():
        assert error == pytest.approx((labels[distances[:, :count].argmin(1)] != truth).mean())
    assert found[3] >= 0.7  # seven classes are not there at all
    assert found[20] == 0
    assert found[40] > 0.2
    assert nearest.added == 40


def test_generated_pictures_are_balanced_and_begin_alike_however_many_there_are() -> None:
    subject = _subject()
    ((few, labels),) = generated(subject, 150, "batch")
    ((more, _),) = generated(subject, 400, "batch")
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 15))
    np.testing.assert_array_equal(few[:CHUNK_IMAGES], more[:CHUNK_IMAGES])
    ((standing, _),) = generated(subject, 150, "standing")
    assert (standing != few).any()
    ((others, _),) = generated(_subject(seed=5), 150, "batch")
    assert (others != few).any()


def test_the_table_and_its_controls() -> None:
    subject, train, test = _subject(), _digits(60, 3), _digits(40, 4)
    names = tuple(map(str, range(10)))
    chosen = NearestSettings(per_class=(20, 1, 4))
    measured = nearest_classification(subject, train, test, names, chosen)
    figures = measured.figures
    assert list(figures["generated"]) == ["10", "40", "200"]
    assert list(figures["real"]) == ["10", "40", "60"]  # there are no 200
    assert figures["real"]["60"] == 0
    assert figures["class_means"] == 0
    ((images, labels),) = generated(subject, 200, "batch")
    distances = _plain(test[0], images)
    wrong = labels[distances.argmin(1)] != test[1]
    assert figures["generated"]["200"] == pytest.approx(wrong.mean())
    assert figures["generated_by_class"]["3"] == pytest.approx(wrong[test[1] == 3].mean())
    assert figures["generated"]["200"] > 0.5  # of a generator that has learned nothing
    assert 0.6 < figures["shuffled_labels"] <= 1
    assert "of 60 real ones: 0.00%" in measured.says
    picture = measured.pictures["nearest"]
    assert picture.shape[1:] == (9 * 30 + 2, 1)
    first = picture[-(10 * 30) : -(10 * 30) + 28]
    np.testing.assert_array_equal(first[:, 2:30], test[0][0])
    np.testing.assert_array_equal(first[:, 32:60], images[distances[0].argmin()])
    np.testing.assert_array_equal(first[:, 62:90], train[0][_plain(test[0][:1], train[0])[0].argmin()])
    again = nearest_classification(_subject(), train, test, names, chosen)
    assert again.figures == figures


def test_a_generator_that_draws_real_pictures_is_as_good_as_they_are() -> None:
    """The measurement tells a generator that learned the classes from one that did not."""
    train, test = _digits(400, 5), _digits(100, 6)
    nearest = Nearest(test[0])
    found = errors([train], [400], test[0], test[1], nearest)
    wrong = errors([(train[0], train[1][::-1].copy())], [400], test[0], test[1], Nearest(test[0]))
    assert found[400] == 0
    assert wrong[400] > 0.9


def _idx(values: npt.NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape) + values.tobytes()


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSettings:
    paths = {}
    for name, count, seed in (("train", 60, 3), ("test", 40, 4)):
        images, labels = _digits(count, seed)
        for what, values in ((name, images[..., 0]), (f"{name}_labels", labels.astype(np.uint8))):
            (tmp_path / what).write_bytes(_idx(values))
            paths[what] = str(tmp_path / what)
    return LabelledSettings(kind="idx", **paths)


def test_it_is_taken_of_files_with_labels(labelled: LabelledSettings) -> None:
    settings = EvaluateSettings(labelled=labelled, nearest=NearestSettings(per_class=(3,)))
    measurement, subject = MEASUREMENTS["nearest"], _subject()
    measurement.check(Readiness(subject.preset, settings, False, False))
    figures = measurement.take(Given(subject, settings)).figures
    names = tuple(map(str, range(10)))
    direct = nearest_classification(subject, _digits(60, 3), _digits(40, 4), names, settings.nearest).figures
    assert {**figures, "generated_by_class": None} == {**direct, "generated_by_class": None}


def test_what_can_not_be_measured_says_what_to_set(labelled: LabelledSettings) -> None:
    check = MEASUREMENTS["nearest"].check
    told, plain = resolve("mnist-28-conditional"), resolve("mnist-28")
    with pytest.raises(Unmeasurable, match=r"mnist-28 can't be asked for a class; train one .* mnist-28-conditional"):
        check(Readiness(plain, EvaluateSettings(labelled=labelled), False, False))
    with pytest.raises(Unmeasurable, match=r"name them in evaluate\.labelled"):
        check(Readiness(told, EvaluateSettings(), False, False))
    given = Given(_subject(classes=3), EvaluateSettings(labelled=labelled))
    with pytest.raises(Unmeasurable, match=r"evaluate\.labelled has 10 classes, the generator 3; name the pictures"):
        MEASUREMENTS["nearest"].take(given)
