"""Removal: on a made-up generator of which it is known which map makes windows, and on freshly built ones."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from subjects import subject
from torch import Tensor

from pipelines.measurements import removal as measurement
from pipelines.measurements.given import Given, Readiness
from pipelines.recipe import EvaluateSettings
from training.draws import Stream, philox, random_z
from training.evaluation.boxes import covered
from training.evaluation.detector import DetectorSettings
from training.evaluation.inside import balanced, tell_inside, without_maps
from training.evaluation.measured import Unmeasurable
from training.evaluation.outcomes import marked_picture, outcome, rows_picture
from training.evaluation.removal import RemovalSettings, removal, remove
from training.evaluation.trials import Trial, of_energy, of_number, of_weight
from training.networks import Generator, build, reference_statistics
from training.presets import resolve
from training.samples import REFERENCE_IMAGES, Images, fixed_z, generate, grid, to_pixels

Boxes = npt.NDArray[np.float32]

_WINDOW = 5  # the map that makes windows
_PRESET = resolve("paper-64", size_px=32, width=8)
_FEW = RemovalSettings(samples=60, layer=1, random_draws=3, shown=4)


class _Painter(Generator):
    """Paints a red window, of one map, at a place that z chooses; the other maps paint the wall around it."""

    def __init__(self) -> None:
        super().__init__(_PRESET)
        with torch.no_grad():
            weight = self.get_parameter("deconv4.weight")
            weight.zero_()
            colours = torch.linspace(0.1, 0.3, 8)[:, None] * torch.tensor([0.0, 1.0, 1.0])
            colours[_WINDOW] = torch.tensor([3.0, 0.0, 0.0])
            weight[:, :, 2:4, 2:4] = colours[:, :, None, None]  # each place of a map paints 2x2 pixels
        self.eval()

    def maps(self, z: Tensor) -> tuple[Tensor, list[Boxes]]:
        """float32[N, 8, 16, 16], and the windows, in pixels."""
        x, boxes = z[:, :8, None, None].abs().expand(-1, -1, 16, 16).clone(), []
        for row, own in enumerate(z.tolist()):
            left, top = int(1 + 4 * abs(own[8])), int(2 + 4 * abs(own[9]))
            x[row, :, top : top + 4, left : left + 5] = 0.0
            x[row, _WINDOW] = 0.0
            if own[10] > -0.5:
                x[row, _WINDOW, top : top + 4, left : left + 5] = 0.5 + 0.5 * abs(own[11])
                boxes.append(np.array([[2 * left, 2 * top, 10, 8]], np.float32))
            else:
                boxes.append(np.zeros((0, 4), np.float32))
        return x, boxes

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = torch.tanh(self.get_submodule("deconv4")(self.maps(z)[0]))
        return image


def _red(images: Images) -> tuple[Boxes, ...]:
    """A detector that makes no mistakes."""
    found = []
    for image in images:
        mask = (image[..., 0] > 180).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        found.append(stats[1:count, :4].astype(np.float32))
    return tuple(found)


def _generator(width: int = 8) -> Generator:
    """A freshly built generator that draws more than grey."""
    generator, _ = build(resolve("paper-64", size_px=32, width=width), 0, torch.device("cpu"))
    with torch.no_grad():
        generator.get_parameter("deconv4.weight").mul_(10)
    return generator.eval()


def test_exactly_the_map_that_makes_windows_is_dropped() -> None:
    figures, pictures = remove(_Painter(), _red, _FEW, seed=1)
    assert figures["regression_balanced_accuracy"] > 0.99
    assert 0.5 < figures["found_before"] < 1
    assert figures["by_number"] == [{"maps": 1, "found": 0.0, "found_random": pytest.approx(0.75, abs=0.3)}]
    for told in (figures["all_positive"], figures["some_maps"]):
        assert told["dropped"] == [_WINDOW]
        assert told["found_after"] == 0
        assert told["lowered_by"] == figures["found_before"]
        assert told["change_elsewhere_rms"] == 0  # the walls stay as they were
        assert told["change_inside_rms"] > 30
        # Another map by chance changes walls instead.
        assert told["change_elsewhere_rms_random"]["mean"] > 1
        hits = np.mean([_WINDOW in of_number(8, 1, 1, draw) for draw in range(3)])
        assert 0 < hits < 1
        assert told["found_after_random"]["mean"] == pytest.approx((1 - hits) * figures["found_before"], abs=1e-3)
        assert told["times_random"] == pytest.approx(1 / hits, abs=0.02)
        assert told["over_3_times_random"] == (hits < 1 / 3)
    assert set(pictures) == {"removal", "detected", "samples"}
    assert json.loads(json.dumps(figures))["all_positive"] == figures["all_positive"]


def test_rows_show_the_same_samples_those_that_had_a_window() -> None:
    before = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3)).astype(np.uint8)
    one, none = np.ones((1, 4), np.float32), np.zeros((0, 4), np.float32)
    picture = rows_picture([("before", before), ("after", 255 - before)], (none, one, none, one, one), 2)
    upper, lower = np.split(picture, 2)
    np.testing.assert_array_equal(upper[-36:], grid(before[[1, 3]], 2))
    np.testing.assert_array_equal(lower[-36:], grid(255 - before[[1, 3]], 2))
    assert (upper[:-36] < 128).any()  # words


def test_frames_are_around_what_was_found_grey_too() -> None:
    images = np.zeros((3, 32, 32, 1), np.uint8)
    boxes = [np.array([[4, 6, 8, 10]], np.float32)] * 3
    picture = marked_picture(images, boxes, 2, "found")
    assert picture.shape[1:] == (2 * 66 + 2, 1)
    cell = picture[-2 * 66 : -66 - 2, 2:66, 0]
    assert np.argwhere(cell).min(axis=0).tolist() == [12, 8]
    assert np.argwhere(cell).max(axis=0).tolist() == [31, 23]


def test_boxes_by_hand_stand_for_those_found() -> None:
    painter = _Painter()
    z = random_z(philox(1, Stream.REMOVAL, 0), _FEW.samples, _PRESET.z_dim, _PRESET.z_distribution)
    _, true = painter.maps(torch.from_numpy(z))
    by_hand, _ = remove(painter, _red, _FEW, seed=1, drawn={number: true[number] for number in range(40)})
    assert by_hand["boxes_by"] == "hand"
    assert by_hand["boxes"] == sum(map(len, true[:40]))
    assert by_hand["all_positive"]["dropped"] == [_WINDOW]
    with pytest.raises(Unmeasurable, match="names sample 60; samples are numbered from 0 to 59"):
        remove(painter, _red, _FEW, seed=1, drawn={60: true[0]})
    with pytest.raises(Unmeasurable, match="too few to learn from"):
        remove(painter, _red, _FEW, seed=1, drawn={0: true[0]})


def test_nothing_to_remove_is_said() -> None:
    def nothing(images: Images) -> tuple[Boxes, ...]:
        return tuple(np.zeros((0, 4), np.float32) for _ in images)

    with pytest.raises(Unmeasurable, match="0 windows in 0 of 60 samples"):
        remove(_Painter(), nothing, _FEW, seed=1)
    with pytest.raises(Unmeasurable, match=r"layer=4: 3 layers hand on maps; give 1 to 3"):
        remove(_Painter(), _red, _FEW.model_copy(update={"layer": 4}), seed=1)


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_maps_are_zero_and_statistics_those_of_the_whole_network(layer: int) -> None:
    generator = _generator()
    z = fixed_z(generator.preset, 3, 5)
    reference = torch.from_numpy(fixed_z(generator.preset, 0, REFERENCE_IMAGES, Stream.FILL))
    maps = np.array([1, 6])
    with reference_statistics(generator, reference), torch.no_grad():
        whole = generate(generator, z)
        with without_maps(generator, layer, maps):
            found = generate(generator, z)
        x = torch.from_numpy(z)
        for place, planned in enumerate(generator.plan):
            x = generator._run(planned, x, None)
            if place == len(generator.plan) - 1 - layer:
                x[:, torch.from_numpy(maps)] = 0
        assert np.abs(found.astype(int) - to_pixels(x)).max() <= 1  # rounding only
        assert np.abs(found.astype(int) - whole).max() > 3
        np.testing.assert_array_equal(generate(generator, z), whole)  # and whole again afterwards


def test_of_a_network_with_classes_maps_are_dropped_and_labels_stay() -> None:
    generator, _ = build(resolve("mnist-28-conditional", width=4), 0, torch.device("cpu"))
    entering: list[Tensor] = []
    module = generator.get_submodule(generator.plan[-1].name)
    module.register_forward_hook(lambda _, inputs, made: entering.append(inputs[0].clone()))
    z = fixed_z(generator.preset, 3, 128)
    with reference_statistics(generator, torch.from_numpy(z)):
        entering.clear()
        with without_maps(generator, 1, np.array([0, 2])):
            generate(generator, z)
        boxes = dict.fromkeys(range(128), np.array([[6, 6, 12, 12]], np.float32))
        told = tell_inside(generator, 1, z, boxes, 0, most_places=1000, held_out_share=0.2, c=1.0)
    maps = generator.plan[-2].outside
    x, whole = entering
    assert told.weights.shape == told.energy.shape == (maps,)
    kept = [number for number in range(x.shape[1]) if number not in (0, 2)]
    torch.testing.assert_close(x[:, kept], whole[:, kept])
    assert (x[:, [0, 2]] == 0).all()
    assert (x[:, maps:].sum(dim=1) == 1).all()


def test_energy_is_what_a_map_adds_to_the_next_layer() -> None:
    painter = _Painter()
    z = fixed_z(_PRESET, 3, 40)
    x, boxes = painter.maps(torch.from_numpy(z))
    told = tell_inside(painter, 1, z, dict(enumerate(boxes)), 0, most_places=1000, held_out_share=0.2, c=1.0)
    for number in range(8):
        alone = torch.zeros_like(x)
        alone[:, number] = x[:, number]
        with torch.no_grad():
            added = painter.get_submodule("deconv4")(alone)
        assert told.energy[number] == pytest.approx(float(added.square().sum()) / (40 * 256), rel=1e-4)
    assert told.places <= 1000
    assert (np.delete(told.weights, _WINDOW) < 0).all()


def test_accuracy_gives_both_kinds_of_places_the_same_weight() -> None:
    true = np.array([True] * 2 + [False] * 8)
    assert balanced(np.zeros(10, bool), true) == 0.5, "who says outside everywhere has told nothing"
    assert balanced(np.array([True, False] + [False] * 6 + [True] * 2), true) == pytest.approx((1 / 2 + 6 / 8) / 2)
    assert balanced(true, true) == 1
    assert balanced(np.zeros(3, bool), np.ones(3, bool)) is None


def test_a_part_without_places_inside_is_told_of() -> None:
    painter, z = _Painter(), fixed_z(_PRESET, 3, 40)
    boxes = {0: np.array([[4, 4, 12, 12]], np.float32), 1: np.zeros((0, 4), np.float32)}
    found, messages = [], []
    for seed in range(8):
        try:  # one of the two samples is held out
            found.append(tell_inside(painter, 1, z, boxes, seed, most_places=1000, held_out_share=0.5, c=1.0).accuracy)
        except Unmeasurable as fault:
            messages.append(str(fault))
    assert found == [None] * len(found)
    assert 0 < len(messages) < 8
    assert all("places of layer 1 to be fitted on, 0 lie inside of boxes" in message for message in messages)


def test_the_control_of_the_same_energy_comes_as_near_as_its_order_allows() -> None:
    energy = np.random.default_rng(0).exponential(size=30)
    sums = []
    for draw in range(20):
        maps = of_energy(energy, 8.0, 1, draw)
        assert len(set(maps.tolist())) == len(maps)
        sums.append(energy[maps].sum())
        shorter = abs(energy[maps[:-1]].sum() - 8.0)
        assert abs(sums[-1] - 8.0) <= shorter or len(maps) == 1
    assert np.mean(sums) == pytest.approx(8.0, abs=0.5)
    assert len({tuple(of_number(30, 4, 1, draw)) for draw in range(20)}) == 20


def test_the_largest_weights_come_first_and_none_that_is_negative() -> None:
    weights = np.array([0.5, -2.0, 3.0, 0.0, 1.0])
    assert of_weight(weights).tolist() == [2, 4, 0]
    with pytest.raises(Unmeasurable, match="no map has a positive weight"):
        of_weight(-np.abs(weights))


def test_the_number_that_does_best_beyond_chance_is_chosen() -> None:
    painter = _Painter()
    z = fixed_z(_PRESET, 3, 40)
    trial = Trial(painter, 1, z, _red, np.ones(8), seed=0)
    ordered = np.array([_WINDOW, 0, 1, 2, 3, 4])
    number, tried = trial.best_number(ordered)
    # Six maps of eight, drawn by chance, are seldom without the one that counts; one or three of eight are.
    assert number == 1
    assert [one["maps"] for one in tried] == [1, 3, 6]
    assert all(one["found"] == 0 for one in tried)
    assert trial.without(ordered[1:])[0].objects == trial.objects


def test_change_is_told_apart_by_the_boxes_found_before() -> None:
    before = np.zeros((2, 8, 8, 3), np.uint8)
    boxes = (np.array([[2, 2, 4, 4]], np.float32), np.zeros((0, 4), np.float32))
    after = before.copy()
    after[0][covered(boxes[0], 8, 8)] = 30
    after[1] = 4
    told = outcome(before, boxes, after, (boxes[1], boxes[0]), 3, 0.5)
    assert told.inside_rms == pytest.approx(30)
    assert told.elsewhere_rms == pytest.approx(np.sqrt(16 * 64 / (64 + 48)))
    assert told.objects == 0.5


def test_the_whole_measurement_says_the_same_each_time() -> None:
    painter = _Painter()
    images = generate(painter, fixed_z(_PRESET, 9, 100))
    boxes = _red(images)
    detector = DetectorSettings(epochs=12, width=4, batch_images=5, noise_levels=4, blur_px=0.5)
    settings = _FEW.model_copy(update={"detector": detector, "maps": 1})

    def once() -> tuple[str, str]:
        measured = removal(subject(painter, seed=2), images, boxes, settings)
        assert set(measured.captions) == set(measured.pictures)
        return json.dumps([measured.figures, measured.settings]), measured.says

    figures, says = once()
    assert once() == (figures, says)
    told = json.loads(figures)[0]
    assert says.startswith(f"{told['found_before']:.2f} windows a sample; without 1 of 8 maps")
    assert told["some_maps"]["dropped"] == [_WINDOW]
    assert _WINDOW in told["all_positive"]["dropped"]
    # The dark hole that is left in the wall looks like a window to it now and then.
    assert told["some_maps"]["found_after"] < 0.5 * told["found_before"]
    assert told["by_number"] is None
    assert told["detector"]["held_out"]["count_error"] < 0.5


def test_what_is_missing_is_said_before_any_work(tmp_path: Path) -> None:
    def check(settings: EvaluateSettings) -> None:
        measurement.check(Readiness(_PRESET, settings, has_shards=False, has_codes=False))

    rooms = {"kind": "drawn_rooms", "images": 20}
    with pytest.raises(Unmeasurable, match=r"evaluate\.boxes\.kind"):
        check(EvaluateSettings())
    with pytest.raises(Unmeasurable, match="3 layers hand on maps"):
        check(EvaluateSettings.model_validate({"boxes": rooms, "removal": {"layer": 9}}))
    with pytest.raises(Unmeasurable, match=r"removal\.drawn=.*is not there"):
        check(EvaluateSettings.model_validate({"boxes": rooms, "removal": {"drawn": str(tmp_path / "no.json")}}))
    check(EvaluateSettings.model_validate({"boxes": rooms}))


def test_a_generator_that_draws_no_windows_is_not_measured(tmp_path: Path) -> None:
    given = {
        "boxes": {"kind": "drawn_rooms", "images": 24},
        "removal": {"samples": 20, "detector": {"epochs": 1, "width": 2}},
    }
    made = subject(_generator())
    (tmp_path / "drawn.json").write_text('{"one": []}')
    by_hand = {**given, "removal": {**given["removal"], "drawn": str(tmp_path / "drawn.json")}}
    with pytest.raises(Unmeasurable, match="one is no number of a sample"):
        measurement.take(Given(made, EvaluateSettings.model_validate(by_hand)))
    (tmp_path / "drawn.json").write_text('{"0": [], "1": [[3, 4, 5, 6]]}')
    with pytest.raises(Unmeasurable, match="1 windows in 1 of 2 samples are too few"):
        measurement.take(Given(made, EvaluateSettings.model_validate(by_hand)))
