"""What share of sums show what they should, and the same of their controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.evaluation.attributes import AttributeClassifier
from training.evaluation.exemplars import seen, sureness
from training.evaluation.formulas import Formula
from training.evaluation.strangeness import Strangeness
from training.samples import Images

CONTROLS = ("pixels", "c_alone", "random")
_AVERAGED = ("wanted", "both", "strangeness")


def shares(
    classifier: AttributeClassifier, images: Images, formula: Formula, strange: Strangeness | None
) -> dict[str, Any]:
    """The share of pictures that show what is wanted, what is kept, and both; how surely; and how strange they are.

    images: uint8[N, H, W, C].
    """
    judged, names = classifier.probabilities(images), classifier.names
    both = {**formula.wanted, **formula.kept}
    figures: dict[str, Any] = {
        "wanted": round(float(seen(judged, names, formula.wanted).mean()), 4),
        "kept": round(float(seen(judged, names, formula.kept).mean()), 4) if formula.kept else None,
        "both": round(float(seen(judged, names, both).mean()), 4),
        "sureness": round(float(sureness(judged, names, both).mean()), 4),
    }
    if strange is not None:
        figures["strangeness"] = round(strange.of(images), 4)
    return figures


def averages(done: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The figures of all formulas, each counting as much as the others."""
    return {
        way: {
            what: round(float(np.mean([each[way][what] for each in done])), 4)
            for what in _AVERAGED
            if what in done[0][way]
        }
        for way in ("latent", "variants", *CONTROLS)
    }


def sentence(figures: Mapping[str, Any], sums: int) -> str:
    """The averages in words, with their controls."""
    wanted, both = ({way: f"{each[what]:.0%}" for way, each in figures["all"].items()} for what in _AVERAGED[:2])
    least = min(figures["classifier"]["heldout_accuracy"].values())
    latent, pixels = (figures["all"][way].get("strangeness") for way in ("latent", "pixels"))
    ghosts = ""
    if pixels is not None:  # what shows the attribute may be no picture any more
        ghosts = f" ({pixels:.1f} times as far from real pictures as samples are, for {latent:.1f})"
    return (
        f"The wanted attribute is seen in {wanted['latent']} of {sums} latent sums ({wanted['variants']} of their "
        f"variants); on pixels in {wanted['pixels']}, in c alone in {wanted['c_alone']}, after a random step in "
        f"{wanted['random']}. All that should be seen is in {both['latent']}, on pixels in {both['pixels']}{ghosts}. "
        f"The classifier is right in {least:.0%} or more of held-out pictures"
    )
