"""Exemplars: the surest samples of a concept, none drawn twice, and files of those chosen by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from subjects import checkpoint_of

from training.checkpoint import Checkpoint
from training.draws import Stream, philox
from training.evaluation.exemplars import (
    Chosen,
    Concept,
    candidates,
    check_chosen,
    chosen_candidates,
    draw_exemplars,
    generator_digest,
    read_chosen,
    shortage,
    sureness,
)
from training.evaluation.formulas import FACES, Formula, check_formulas, ready_formulas
from training.evaluation.measured import Unmeasurable
from training.presets import resolve

SMILE = Concept(name="smiling", shows={"smile": 1, "glasses": 0})


def checkpoint(seed: int = 0) -> Checkpoint:
    return checkpoint_of(resolve("mnist-28", width=4), weights=seed)


def test_candidates_are_those_that_show_all_of_it_surest_first() -> None:
    judged = np.array([[0.6, 0.1], [0.9, 0.6], [0.9, 0.2], [0.4, 0.0], [0.7, 0.3]], np.float32)
    names = ("smile", "glasses")
    np.testing.assert_allclose(
        sureness(judged, names, SMILE.shows), [0.6 * 0.9, 0.9 * 0.4, 0.9 * 0.8, 0.4, 0.7 * 0.7], rtol=1e-6
    )
    assert candidates(judged, names, SMILE, 10).tolist() == [2, 0, 4]
    assert candidates(judged, names, SMILE, 2).tolist() == [2, 0]
    assert candidates(judged, names, Concept(name="frowning glasses", shows={"smile": 0, "glasses": 1}), 9).size == 0
    with pytest.raises(Unmeasurable, match="no attribute hat; the pictures have smile, glasses"):
        candidates(judged, names, Concept(name="hat", shows={"hat": 1}), 9)


@given(st.lists(st.sets(st.integers(0, 30), min_size=1), min_size=1, max_size=3), st.integers(1, 5), st.integers(0, 99))
def test_exemplars_are_of_their_concept_and_drawn_once(pools: list[set[int]], count: int, seed: int) -> None:
    concepts = [Concept(name=f"concept {place}") for place in range(len(pools))]
    arrays = [np.array(sorted(pool)) for pool in pools]
    if missing := shortage(concepts, arrays, count):
        assert "are needed" in missing
        return
    drawn = draw_exemplars(arrays, count, philox(seed, Stream.ARITHMETIC))
    assert drawn.shape == (len(pools), count)
    assert len(np.unique(drawn)) == drawn.size
    for places, pool in zip(drawn.tolist(), pools, strict=True):
        assert set(places) <= pool
    np.testing.assert_array_equal(drawn, draw_exemplars(arrays, count, philox(seed, Stream.ARITHMETIC)))


def test_concepts_that_share_samples_need_more_of_them() -> None:
    concepts = [SMILE, Concept(name="one"), Concept(name="other")]
    pools = [np.arange(3), np.arange(10, 16), np.arange(10, 16)]
    assert shortage(concepts, pools, 3) is None
    assert shortage(concepts, pools, 4) == "3 samples show smiling, 4 are needed"
    pools[2] = np.arange(10, 15)
    assert shortage(concepts, pools, 3) == "5 samples show other, 6 are needed"


def test_a_file_counts_for_its_own_generator_and_seed(tmp_path: Path) -> None:
    own, other = checkpoint(0), checkpoint(1)
    assert generator_digest(own) == generator_digest(checkpoint(0)) != generator_digest(other)
    text = {"seed": 5, "checkpoint": generator_digest(own), "concepts": {"smiling": [3, 1], "neutral": []}}
    (tmp_path / "exemplars.json").write_text(json.dumps(text))
    chosen = read_chosen(str(tmp_path / "exemplars.json"))
    check_chosen(chosen, own, 5)
    assert chosen_candidates(chosen, SMILE).tolist() == [2, 0]
    with pytest.raises(Unmeasurable, match=f"{generator_digest(own)}, this one is {generator_digest(other)}"):
        check_chosen(chosen, other, 5)
    with pytest.raises(Unmeasurable, match="of seed 5, this measurement's seed is 6; set the seed to 5, or choose"):
        check_chosen(chosen, own, 6)
    with pytest.raises(Unmeasurable, match="chosen for 'hat', but for smiling, neutral"):
        chosen_candidates(chosen, Concept(name="hat"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "can't be read .No such file"),
        ("", "Invalid JSON"),
        ('{"seed": 1, "checkpoint": "a"}', "concepts: Field required"),
        ('{"seed": 1, "checkpoint": "a", "concepts": {"x": [0]}}', "concepts.x.0: Input should be greater"),
        ('{"seed": 1, "checkpoint": "a", "concepts": {"x": [4, 2, 4]}}', "x names sample 4 twice"),
        ('{"seed": 1, "checkpoint": "a", "concepts": {}, "z": 1}', "z: Extra inputs"),
    ],
)
def test_files_that_hold_no_exemplars_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "exemplars.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Unmeasurable, match=message):
        read_chosen(str(file))


def test_a_round_trip_keeps_all() -> None:
    chosen = Chosen(seed=2, checkpoint="abc", concepts={"x": (4, 2)})
    assert Chosen.model_validate_json(chosen.model_dump_json()) == chosen


# Formulas


def test_the_sum_of_the_concepts_says_what_is_wanted() -> None:
    first = FACES[0]
    assert first.text == "smiling, long hair - neutral, long hair + neutral, short hair"
    assert first.wanted == {"smile": 1}
    assert first.kept == {"long_hair": 0, "glasses": 0}
    for formula in FACES:
        for name in formula.a.shows:
            total = formula.a.shows[name] - formula.b.shows[name] + formula.c.shows[name]
            assert total == {**formula.wanted, **formula.kept}[name]


def test_formulas_are_those_that_the_attributes_allow() -> None:
    assert ready_formulas(("smile", "glasses", "long_hair", "hat")) == FACES
    assert ready_formulas(("long_hair", "smile")) == FACES[2:]
    (one,) = ready_formulas(("hat",))
    assert (one.wanted, one.kept, one.text) == ({"hat": 1}, {}, "hat - no hat + no hat")
    with pytest.raises(Unmeasurable, match="glasses, long hair: there is no attribute glasses; the pictures have long"):
        check_formulas(FACES[1:], ("long_hair", "smile"))


@pytest.mark.parametrize(
    ("a", "b", "c", "message"),
    [
        ({"smile": 1}, {"smile": 0}, {"smile": 1}, "smile would be 1 - 0 . 1 = 2"),
        ({"smile": 0}, {"smile": 1}, {"smile": 0}, "smile would be 0 - 1 . 0 = -1"),
        ({"smile": 1}, {"smile": 1}, {"smile": 0}, "a and b show the same"),
        ({"smile": 1}, {"smile": 0}, {"glasses": 0}, "must say 0 or 1 of the same attributes"),
        ({"smile": 1}, {}, {"smile": 0}, "b nothing, c smile"),
    ],
)
def test_sums_that_come_to_nothing_are_refused(
    a: dict[str, int], b: dict[str, int], c: dict[str, int], message: str
) -> None:
    concepts = {key: {"name": key, "shows": shows} for key, shows in (("a", a), ("b", b), ("c", c))}
    with pytest.raises(ValueError, match=message):
        Formula.model_validate({"name": "sum", **concepts})
