"""FID and KID by torch-fidelity, from Inception weights that were given; nothing is ever fetched."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from training.evaluation.measured import Unmeasurable
from training.samples import Images

INSTALL = "pip install 'dcgan-pipeline[fid]'"
NOT_GIVEN = "Inception's weights were not given; name their file in distribution.inception_weights"
_KID_SUBSETS, _KID_IMAGES = 100, 1000


class _Pictures(Dataset[torch.Tensor]):
    """uint8[3, H, W] each, RGB, as torch-fidelity takes them."""

    def __init__(self, images: Images) -> None:
        colour = np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images
        self.images = torch.from_numpy(np.ascontiguousarray(colour.transpose(0, 3, 1, 2)))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images[row]


def check_inception(weights: str) -> None:
    """Nothing where FID and KID can be had.

    Raises:
        Unmeasurable: torch-fidelity isn't installed, or there is no such file.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise Unmeasurable(f"FID and KID need torch-fidelity: {INSTALL}, or leave distribution.inception_weights out")
    if not Path(weights).is_file():
        raise Unmeasurable(f"distribution.inception_weights={weights} is no file; name torch-fidelity's Inception .pth")


def frechet_and_kernel(images: Images, real: Images, weights: str, device: torch.device, seed: int) -> dict[str, float]:
    """fid, kid and the deviation of kid over its subsets.

    images, real: uint8[N, H, W, C], RGB or grey; weights: a .pth file for torch-fidelity's `inception-v3-compat`.

    Raises:
        Unmeasurable: `check_inception`; or the file is no plain state dict.

    Source: Heusel et al. 2017; Binkowski et al. 2018. FID is biased upwards, the more the fewer images.
    """
    check_inception(weights)
    from torch_fidelity import calculate_metrics

    # torch-fidelity unpickles whatever the file holds; so it is given a copy of what holds nothing but tensors.
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own words recommend to unpickle it after all, so they aren't repeated.
        raise Unmeasurable(
            f"{weights} is damaged or no plain state dict; name torch-fidelity's Inception .pth"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pth"
        torch.save(state, path)
        found: dict[str, Any] = calculate_metrics(
            input1=_Pictures(images),
            input2=_Pictures(real),
            cuda=device.type == "cuda",
            fid=True,
            kid=True,
            kid_subsets=_KID_SUBSETS,
            kid_subset_size=min(_KID_IMAGES, len(images) // 2, len(real) // 2),
            feature_extractor="inception-v3-compat",
            feature_extractor_weights_path=str(path),
            rng_seed=seed,
            cache=False,
            save_cpu_ram=True,  # reads in this process: the images are in memory already
            verbose=False,
        )
    names = {"fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean"}
    names["kid_deviation"] = "kernel_inception_distance_std"
    return {name: float(f"{found[key]:.6g}") for name, key in names.items()}
