"""The discriminator's architecture trained on labels."""

import numpy as np
import numpy.typing as npt
import torch

from training.evaluation.supervised import (
    Classifier,
    SupervisedSettings,
    Trial,
    accuracy,
    draw_trials,
    last_units,
    search,
    train,
)
from training.networks import build
from training.presets import resolve
from training.samples import Images

CPU = torch.device("cpu")
PRESET = resolve("svhn-32", width=4, batch_images=16)
EASY = Trial(learning_rate=2e-3, beta1=0.9, weight_decay=1e-5, dropout=0.2, batch_images=16)


def classed(count: int, seed: int = 0) -> tuple[Images, npt.NDArray[np.int64]]:
    """Noise, brighter in the upper half, in the lower, or in neither: three classes."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    images = draw.integers(0, 120, (count, 32, 32, 3), dtype=np.uint8)
    images[labels == 0, :16] += 100
    images[labels == 1, 16:] += 100
    return images, labels


def test_it_learns_what_can_be_seen_and_is_the_same_again() -> None:
    images, labels = classed(240)
    test, test_labels = classed(60, seed=1)
    network = train(PRESET, images, labels, 3, EASY, 6, 0, CPU)
    assert accuracy(network, test, test_labels, images[:64]) > 0.95
    again = train(PRESET, images, labels, 3, EASY, 6, 0, CPU)
    assert torch.equal(network.classes.weight, again.classes.weight)


def test_its_convolutions_begin_as_the_discriminators() -> None:
    network = Classifier(PRESET, 3, 0.0, 7, CPU)
    for name, value in build(PRESET, 7, CPU)[1].state_dict().items():
        assert torch.equal(value, network.convolutions.state_dict()[name])
    assert network.classes.in_features == last_units(PRESET) == 16 * 16


def test_trials_are_drawn_by_the_seed_and_differ() -> None:
    eight = draw_trials(SupervisedSettings(trials=8), 1)
    assert draw_trials(SupervisedSettings(trials=3), 1) == eight[:3]
    assert draw_trials(SupervisedSettings(trials=8), 2) != eight
    assert len({trial.learning_rate for trial in eight}) == 8
    assert all(
        1e-4 <= t.learning_rate <= 3e-3 and 0 <= t.dropout < 1 and t.batch_images in (32, 64, 128) for t in eight
    )


def test_the_search_takes_what_the_validation_part_likes_best() -> None:
    images, labels = classed(200)
    settings = SupervisedSettings(trials=3, search_images=120, search_epochs=2)
    said: list[str] = []
    found = search(PRESET, images, labels, 3, settings, 0.2, 0, CPU, said.append)
    assert len(said) == 3
    assert [trial["learning_rate"] for trial in found.tried] == [t.learning_rate for t in draw_trials(settings, 0)]
    best = max(found.tried, key=lambda trial: trial["validation"])
    assert best["validation"] == round(found.accuracy, 4)
    assert best["learning_rate"] == found.best.learning_rate
