"""Exemplars of a concept: samples of the generator that show it, chosen by a classifier or by hand."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from training.checkpoint import Checkpoint
from training.draws import permutation
from training.evaluation.measured import Unmeasurable

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_DIGITS = 16


class Concept(BaseModel):
    """What exemplars have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="what it is called on pictures, and in a file of exemplars")
    shows: dict[str, Literal[0, 1]] = Field(
        default_factory=dict, description="attributes that its exemplars show (1) or don't (0), such as {smile: 1}"
    )


class Chosen(BaseModel):
    """Exemplars that a person chose on the page of `dcgan exemplars`.

    concepts: for each name, numbers of samples, from 1, in the order of `training.samples.fixed_z`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    checkpoint: str
    concepts: dict[str, tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...]]

    @field_validator("concepts")
    @classmethod
    def _each_once(cls, concepts: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        for name, numbers in concepts.items():
            twice = sorted({number for number in numbers if numbers.count(number) > 1})
            if twice:
                raise ValueError(f"{name} names sample {', '.join(map(str, twice))} twice; name each once")
        return concepts


def generator_digest(checkpoint: Checkpoint) -> str:
    """16 hex digits of the generator's weights: samples of one number are the same picture only where these are."""
    digest = hashlib.sha256()
    for name, weight in sorted(checkpoint.generator.items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:_DIGITS]


def read_chosen(file: str) -> Chosen:
    """The exemplars of a file that the page of `dcgan exemplars` saved.

    Raises:
        Unmeasurable: there is no such file, or it holds something else.
    """
    try:
        return Chosen.model_validate_json(Path(file).read_bytes())
    except OSError as error:
        raise Unmeasurable(
            f"{file} can't be read ({error.strerror}); make a page with dcgan exemplars CHECKPOINT --out page.html, "
            "choose, and save"
        ) from error
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        raise Unmeasurable(
            f"{file} holds no exemplars of dcgan exemplars ({place}: {fault['msg']}); save them anew from its page"
        ) from error


def check_chosen(chosen: Chosen, checkpoint: Checkpoint | None, seed: int) -> None:
    """Raise Unmeasurable where the exemplars were chosen among samples of another generator or another seed.

    checkpoint: None, where it is still to be trained, is not compared
    """
    if checkpoint is not None and chosen.checkpoint != (own := generator_digest(checkpoint)):
        raise Unmeasurable(
            f"the exemplars were chosen among samples of the generator {chosen.checkpoint}, this one is {own} "
            f"({checkpoint.name}); evaluate that checkpoint, or choose anew with dcgan exemplars"
        )
    if chosen.seed != seed:
        raise Unmeasurable(
            f"the exemplars were chosen among samples of seed {chosen.seed}, this measurement's seed is {seed}; set "
            f"the seed to {chosen.seed}, or choose anew with dcgan exemplars --seed {seed}"
        )


def sureness(probabilities: Floats, names: Sequence[str], shows: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """How surely each picture shows a concept: the product over its attributes.

    probabilities: float32[N, A], a column for each of `names` -> float64[N].

    Raises:
        Unmeasurable: the concept names an attribute that is none of `names`.
    """
    unknown = sorted(set(shows) - set(names))
    if unknown:
        raise Unmeasurable(f"there is no attribute {', '.join(unknown)}; the pictures have {', '.join(names)}")
    sure = np.ones(len(probabilities))
    for name, value in shows.items():
        column = probabilities[:, list(names).index(name)].astype(np.float64)
        sure *= column if value else 1 - column
    return sure


def seen(probabilities: Floats, names: Sequence[str], shows: Mapping[str, int]) -> npt.NDArray[np.bool_]:
    """Whether each picture is seen to have all that a concept shows. probabilities: float32[N, A] -> bool[N]."""
    columns = [list(names).index(name) for name in shows]
    return np.asarray(((probabilities[:, columns] > 0.5) == np.array([*shows.values()], bool)).all(axis=1))


def candidates(probabilities: Floats, names: Sequence[str], concept: Concept, most: int) -> Numbers:
    """The samples that show a concept, the surest first, at most `most` of them.

    probabilities: float32[N, A] of the samples -> places: int64[K], from 0.
    """
    sure = sureness(probabilities, names, concept.shows)
    order = np.argsort(-sure, kind="stable")
    return order[seen(probabilities, names, concept.shows)[order]][:most]


def chosen_candidates(chosen: Chosen, concept: Concept) -> Numbers:
    """The samples that a person chose for a concept: places from 0, int64[K].

    Raises:
        Unmeasurable: the file has no concept of that name.
    """
    if concept.name not in chosen.concepts:
        raise Unmeasurable(
            f"no exemplars were chosen for {concept.name!r}, but for {', '.join(chosen.concepts) or 'nothing'}; "
            "call the concept so on the page, or name those in the settings"
        )
    return np.array(chosen.concepts[concept.name], np.int64) - 1


def shortage(concepts: Sequence[Concept], pools: Sequence[Numbers], count: int) -> str | None:
    """What is missing to draw `count` different exemplars of each concept, in words; None where nothing is.

    pools: the places of each concept's candidates. A sample is an exemplar of one concept only, so concepts that share
    candidates need more.
    """
    for place, (concept, pool) in enumerate(zip(concepts, pools, strict=True)):
        shared = sum(count for other in pools[:place] if np.isin(pool, other).any())
        if len(pool) < count + shared:
            return f"{len(pool)} samples show {concept.name}, {count + shared} are needed"
    return None


def draw_exemplars(pools: Sequence[Numbers], count: int, bits: np.random.Philox) -> Numbers:
    """Exemplars of each concept by chance, none of them twice.

    pools: the places of each concept's candidates, as many as `shortage` asks for -> places: int64[concepts, count].
    """
    taken: set[int] = set()
    drawn = []
    for pool in pools:
        order = pool[permutation(len(pool), bits)].tolist()
        drawn.append([place for place in order if place not in taken][:count])
        taken.update(drawn[-1])
    return np.array(drawn, np.int64)
