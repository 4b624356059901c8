"""The measured error, against values worked out by hand and by comparing all with all."""

import tarfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from textures import every_nomination, frames, seen_of

from dedup.autoencoder import AutoencoderSettings, Encoder, fit
from dedup.changes import apply_change
from dedup.codes import encode, flat, mirrored
from dedup.groups import find_groups
from dedup.quality import measure_plants, recall_by_change, truth_figures, wilson_interval
from dedup.verdict import Pairs, Seen, VerdictSettings, closest_scores, scores
from manifests.perceptual import luma, thumbs

BEDROOMS = Path(__file__).parents[2] / "shared" / "data" / "bedrooms.tar"
JOINT, CODE = VerdictSettings(), VerdictSettings(rule="code")


def with_bits(*bits: int) -> list[int]:
    return [sum(1 << bit for bit in bits if bit < 64), sum(1 << bit - 64 for bit in bits if bit >= 64)]


def coded(codes: list[list[int]], flat_rows: tuple[int, ...] = ()) -> Seen:
    """Images of these codes, whose thumbs are for nobody to look at."""
    words = np.array(codes, np.uint64)
    mask = np.zeros(len(codes), np.bool_)
    mask[list(flat_rows)] = True
    return Seen(words, words, np.zeros((len(codes), 32, 32), np.uint8), mask)


def test_figures_of_planted_changes_by_hand() -> None:
    samples = coded([with_bits(), with_bits(*range(40)), with_bits(*range(39)), with_bits(*range(60, 120))])
    keepers = np.array([0, 1, 1, 3])  # 1 and 2 are true repeats
    plants = coded(
        [
            with_bits(),  # 0 of sample 0: equal
            with_bits(0, 1, 2),  # 1 of sample 0: 3 bits off
            with_bits(*range(20)),  # 2 of sample 0: 20 off it, 20 and 19 off samples 1 and 2
            with_bits(*range(40)),  # 3 of sample 1: equal, and 1 off its twin, which is not wrong
            with_bits(*range(40)),  # 4 said to be of sample 3: wrong with samples 1 and 2
        ],
    )
    changes = ["png", "jpeg60", "crop10", "png", "crop10"]
    sources = np.array([0, 0, 0, 1, 3])
    measured = measure_plants(CODE, 14, plants, changes, sources, samples, keepers)
    assert measured.plants == {
        "sources": 3,
        "recall": 3 / 5,
        "recall_equal": 2 / 5,
        "by_change": {
            "crop10": {"planted": 2, "recall": 0.0, "recall_equal": 0.0},
            "jpeg60": {"planted": 1, "recall": 1.0, "recall_equal": 0.0},
            "png": {"planted": 2, "recall": 1.0, "recall_equal": 1.0},
        },
        "wrong_merges": 2,
        "compared_pairs": 3 + 3 + 3 + 2 + 3,
    }
    curve = measure_plants(CODE, 24, plants, changes, sources, samples, keepers).curve
    assert [point["radius"] for point in curve] == list(range(25))
    by_radius = [(point["recall"], point["pairs"], point["wrong_merges"]) for point in curve]
    assert by_radius[0] == (2 / 5, 3, 1)  # plants 0 and 3 right, 4 with sample 1 wrong
    assert by_radius[1] == (2 / 5, 5, 2)  # 3 with its twin, 4 with sample 2
    assert by_radius[3] == by_radius[18] == (3 / 5, 6, 2)
    assert by_radius[19] == (3 / 5, 7, 3)
    assert by_radius[24] == (4 / 5, 9, 4)
    assert measured.curve == curve[:15]


def test_flat_images_are_neither_found_nor_wrong() -> None:
    samples = coded([with_bits(), with_bits(5), with_bits(5)], flat_rows=(2,))
    plants = coded([with_bits(), with_bits(), with_bits(5)], flat_rows=(1,))
    changes, sources, keepers = ["png", "png", "png"], np.array([0, 0, 2]), np.arange(3)
    measured = measure_plants(CODE, 24, plants, changes, sources, samples, keepers)
    assert measured.plants["recall"] == measured.plants["recall_equal"] == 1 / 3
    assert measured.plants["wrong_merges"] == 3  # plant 0 with sample 1, plant 2 with samples 0 and 1
    assert measured.curve[24]["recall"] == 1 / 3


def drawn_plants(seed: int) -> tuple[Seen, Seen, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Samples, of which some are one picture; plants of them, changed little or much; their sources; all keepers."""
    rng = np.random.default_rng(seed)
    images, planted = 60, 150
    shown = rng.integers(0, 40, images)
    lumas = frames(range(40))[shown]
    samples = seen_of(lumas, rng.random(images) < 0.05)
    sources = rng.integers(0, images, planted)
    noisy = lumas[sources] + rng.normal(0, 1, (planted, 32, 32)) * rng.choice([0, 5, 60], (planted, 1, 1))
    changed = np.clip(noisy, 0, 255).astype(np.uint8)
    changed[::4] = changed[::4, :, ::-1]
    plants = seen_of(changed, rng.random(planted) < 0.05)
    plants.codes[::7] = samples.codes[rng.integers(0, images, len(plants.codes[::7]))]
    # Half of the repeats were grouped; the other half look like wrong merges.
    keepers = np.array([np.flatnonzero(shown == one)[0] if one % 2 else row for row, one in enumerate(shown)])
    return samples, plants, sources, keepers


@pytest.mark.parametrize("settings", [JOINT, CODE], ids=["joint", "code"])
@pytest.mark.parametrize("radius", [0, 6, 16])
def test_measuring_agrees_with_judging_every_pair(settings: VerdictSettings, radius: int) -> None:
    samples, plants, sources, keepers = drawn_plants(radius)
    changes = [f"change{row % 3}" for row in range(len(plants))]
    measured = measure_plants(settings, radius, plants, changes, sources, samples, keepers)

    nearest: dict[tuple[int, int], int] = {}
    nearest_wrong: dict[tuple[int, int], int] = {}
    for turned, nominated in enumerate(every_nomination(settings, radius, plants, samples)):
        first, second, distance, mirror, view = np.array(nominated, np.int64).reshape(-1, 5).T
        one, other = (samples, plants) if turned else (plants, samples)
        pairs = Pairs(first, second, distance.astype(np.uint8), mirror.astype(np.bool_), view.astype(np.uint8))
        judged = scores(settings, radius, pairs, one, other) >= 0
        plant, sample = (pairs.second, pairs.first) if turned else (pairs.first, pairs.second)
        for row in range(len(pairs)):
            pair, bits = (int(plant[row]), int(sample[row])), int(distance[row])
            if plants.flat[pair[0]] or samples.flat[pair[1]]:
                continue
            nearest[pair] = min(bits, nearest.get(pair, 99))
            if judged[row] and keepers[pair[1]] != keepers[sources[pair[0]]]:
                nearest_wrong[pair] = min(bits, nearest_wrong.get(pair, 99))

    own, score = closest_scores(settings, radius, plants, samples, np.arange(len(plants)), sources)
    right = ~plants.flat & ~samples.flat[sources] & ((score >= 0) | (settings.rule == "code"))
    assert measured.plants["recall"] == (right & (own.distance <= radius)).mean() > 0
    assert measured.plants["wrong_merges"] == len(nearest_wrong)
    assert len(nearest_wrong) > 0 or radius == 0
    assert measured.plants["compared_pairs"] == (keepers[sources][:, None] != keepers[None]).sum()
    assert len(measured.curve) == radius + 1
    for point in measured.curve:
        assert point["pairs"] == sum(bits <= point["radius"] for bits in nearest.values())
        assert point["wrong_merges"] == sum(bits <= point["radius"] for bits in nearest_wrong.values())
        assert point["recall"] == (right & (own.distance <= point["radius"])).mean()


@pytest.mark.parametrize("settings", [JOINT, CODE], ids=["joint", "code"])
def test_figures_do_not_depend_on_order_or_threads(settings: VerdictSettings) -> None:
    samples, plants, sources, keepers = drawn_plants(5)
    changes = [f"change{row % 3}" for row in range(len(plants))]
    measured = measure_plants(settings, 14, plants, changes, sources, samples, keepers)
    rng = np.random.default_rng(0)
    order, moved = rng.permutation(len(plants)), rng.permutation(len(samples))
    back = np.argsort(moved)
    again = measure_plants(
        settings,
        14,
        plants.of(order),
        [changes[row] for row in order],
        back[sources[order]],
        samples.of(moved),
        back[keepers[moved]],
        threads=2,
    )
    assert again == measured


def test_no_plants_have_no_recall() -> None:
    samples = seen_of(frames(range(1)))
    nobody = samples.of(np.zeros(1, np.bool_))
    measured = measure_plants(JOINT, 16, nobody, [], np.empty(0, np.int64), samples, np.zeros(1, np.int64))
    assert measured.plants["recall"] is None
    assert measured.plants["by_change"] == {}
    assert measured.curve[7] == {"radius": 7, "recall": None, "pairs": 0, "wrong_merges": 0}


def test_recall_by_change_counts_each_by_itself() -> None:
    figures = recall_by_change(["b", "a", "b", "b"], np.array([1, 0, 1, 0], bool), np.array([1, 0, 0, 0], bool))
    assert list(figures) == ["a", "b"]
    assert figures["b"] == {"planted": 3, "recall": 2 / 3, "recall_equal": 1 / 3}


def test_recall_and_precision_against_known_variants() -> None:
    #      0    1     2     3    4     5     6     7
    ids = ["a", "a1", "a2", "b", "b1", "a21", "c", "d1"]
    origin = {"a1": "a", "a2": "a", "b1": "b", "a21": "a2", "d1": "d", "gone": "a"}
    keepers = np.array([0, 0, 5, 4, 4, 5, 0, 7])  # c is wrongly with a; a2 and a21 are apart from a
    assert truth_figures(ids, keepers, origin) == {
        "variants": 4,  # a1, a2, b1, a21: d and the one that is gone can't be found
        "found": 3,  # all but a2
        "recall": 0.75,
        "removed": 4,  # a1, a2, b, c
        "right": 3,  # all but c
        "precision": 0.75,
    }
    nothing = truth_figures(["a"], np.array([0]), {})
    assert nothing["recall"] is None
    assert nothing["precision"] is None


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 10, (0.0, 0.2775)),
        (10, 10, (0.7225, 1.0)),
        (10, 100, (0.0552, 0.1744)),
        (1, 1000, (0.00018, 0.00564)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilsons_interval_has_its_known_values(successes: int, trials: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


def test_wilsons_interval_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match=r"successes=3 is not in 0\.\.2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="confidence=95"):
        wilson_interval(1, 2, confidence=95)
    narrow, wide = wilson_interval(5, 10, 0.5), wilson_interval(5, 10, 0.99)
    assert wide[0] < narrow[0] < 0.5 < narrow[1] < wide[1]


@pytest.mark.data
@pytest.mark.skipif(not BEDROOMS.exists(), reason="needs ../shared/data/bedrooms.tar")
def test_the_usual_changes_of_real_bedrooms_are_found_and_nothing_else() -> None:
    rooms = read_rooms(600)
    changes = [change for change in ("jpeg60", "scale50", "crop5", "rotate2", "mirror") for _ in range(40)]
    sources = np.arange(200) % 40
    changed = [apply_change(rooms[row], change) for row, change in zip(sources.tolist(), changes, strict=True)]
    encoder = fit(thumbs_of(rooms)[0], AutoencoderSettings(), seed=0, threads=1).encoder
    samples, plants = room_seen(rooms, encoder), room_seen(changed, encoder)
    keepers = find_groups(samples, JOINT, 14, np.arange(len(rooms))).keepers
    figures = measure_plants(JOINT, 14, plants, changes, sources, samples, keepers).plants
    assert figures["wrong_merges"] == 0
    assert figures["recall"] is not None
    assert figures["recall"] >= 0.99
    assert figures["recall_equal"] is not None
    assert figures["recall_equal"] < 0.8  # the paper's rule: why a radius is needed


def read_rooms(count: int) -> list[npt.NDArray[np.uint8]]:
    rooms: list[npt.NDArray[np.uint8]] = []
    with tarfile.open(BEDROOMS) as tar:
        for member in tar:
            if len(rooms) < count and (file := tar.extractfile(member)) is not None:
                bgr = np.asarray(cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR), np.uint8)
                rooms.append(np.ascontiguousarray(bgr[..., ::-1]))
    return rooms


def thumbs_of(images: list[npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    centre, whole = zip(*(thumbs(image) for image in images), strict=True)
    return np.stack(centre).reshape(len(images), -1), np.stack(whole)


def room_seen(images: list[npt.NDArray[np.uint8]], encoder: Encoder) -> Seen:
    centre, whole = thumbs_of(images)
    return Seen(encode(encoder, centre), encode(encoder, mirrored(centre)), luma(whole), flat(centre))
