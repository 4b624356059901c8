"""Distributions of samples: what is as good as real images, what is worse, and what isn't measured and says so."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from subjects import SMALL, Shows, fields, subject

from training.evaluation.distribution import DistributionSettings, distribution
from training.evaluation.inception import check_inception, frechet_and_kernel
from training.evaluation.measured import Measured, Unmeasurable
from training.samples import Images

REAL, CONTROL = fields(128, 1), fields(128, 2)


def _measured(shown: Images, **changed: Any) -> Measured:
    settings = DistributionSettings(**{"images": 128, "reference_images": 64, **changed})
    return distribution(subject(Shows(SMALL, shown)), REAL, CONTROL, settings)


def test_new_pictures_of_the_kind_are_as_good_as_the_control_and_blur_and_noise_are_not() -> None:
    figures = _measured(fields(128, 3)).figures
    samples, control, blurred, noise = (figures["sets"][name] for name in ("samples", "control", "blurred", "noise"))
    distances = [of["sliced_wasserstein"]["swd"] for of in (samples, control, blurred, noise)]
    assert max(distances[:2]) < 0.7 * min(distances[2:])
    assert max(distances[:2]) < 1.5 * figures["real"]["swd_floor"]
    for name in ("precision_fresh", "recall_fresh", "precision_own", "recall_own"):
        assert samples[name] == pytest.approx(control[name], abs=0.25)
        assert noise[name] == 0
    assert blurred["recall_fresh"] < 0.3 < samples["recall_fresh"]  # its precision may be high: it lies in the middle
    assert samples["pair_similarity"] == pytest.approx(figures["real"]["pair_similarity"], abs=0.05)


def test_samples_without_variety_are_alike_and_recall_little() -> None:
    samples = _measured(np.repeat(fields(4, 3), 32, axis=0)).figures["sets"]["samples"]
    control = _measured(fields(128, 3)).figures["sets"]["control"]
    assert samples["pair_similarity"] > control["pair_similarity"] + 0.1
    assert samples["recall_fresh"] < 0.5 * control["recall_fresh"]


def test_the_same_seed_gives_the_same_json_and_the_picture_names_each_set() -> None:
    first, again = _measured(CONTROL[::-1]), _measured(CONTROL[::-1])
    assert json.dumps(first.figures) == json.dumps(again.figures)
    np.testing.assert_array_equal(first.pictures["sets"], again.pictures["sets"])
    assert "held-out images" in first.says
    assert "noise" in first.says
    assert "blurred" in first.says
    assert "inception_weights" in first.figures["left_out"]["fid"]


def test_sets_of_other_sizes_are_refused() -> None:
    with pytest.raises(Unmeasurable, match="128 real images and 100 others"):
        distribution(subject(Shows(SMALL, REAL)), REAL, CONTROL[:100], DistributionSettings())
    with pytest.raises(Unmeasurable, match="64 or more"):
        distribution(subject(Shows(SMALL, REAL)), REAL[:63], CONTROL[:63], DistributionSettings())


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed")
def test_fid_without_torch_fidelity_says_how_to_install_it() -> None:
    with pytest.raises(Unmeasurable, match=r"pip install 'dcgan-pipeline\[fid\]'"):
        check_inception("weights.pth")
    with pytest.raises(Unmeasurable, match="pip install"):
        _measured(CONTROL, inception_weights="weights.pth")


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")
def test_fid_takes_no_file_that_holds_more_than_weights(tmp_path: Path) -> None:
    import pickle

    import torch

    with pytest.raises(Unmeasurable, match="is no file"):
        check_inception(str(tmp_path / "absent.pth"))
    bad = tmp_path / "bad.pth"
    bad.write_bytes(pickle.dumps({"weight": print}))
    with pytest.raises(Unmeasurable, match="no plain state dict"):
        frechet_and_kernel(CONTROL, REAL, str(bad), torch.device("cpu"), 0)
