"""A detector of objects of one kind, small enough to train on the spot, to count them in samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.draws import Stream, permutation, philox
from training.evaluation.boxes import Boxes, covered, matches, mirrored

Images = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]

LEAST_PICTURES = 20
_CHUNK = 256
_STRIDE = 2
_CORE = 0.6  # the middle of a box, in width and height, that is learned: windows side by side stay apart
_EXTENT = 0.4  # of probability, at the edge of what is found
_SAME = 0.3  # overlap of two boxes that count as the same
_PARTS, _NETWORK, _ORDER, _CHANGES, _HELD = range(5)


class DetectorSettings(BaseModel):
    """How the detector is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=12, ge=1, description="Times that each picture is trained on, changed each time")
    batch_images: int = Field(default=32, ge=1, description="Pictures in a batch")
    learning_rate: float = Field(default=3e-3, gt=0, description="Adam's first step size; it falls to 0 by a cosine")
    width: int = Field(default=16, ge=1, description="Channels of the first convolution; 2 and 4 times it further in")
    held_out_share: float = Field(
        default=0.2, gt=0, le=0.5, description="Part not trained on: half to choose the threshold, half for its figures"
    )
    noise_levels: float = Field(default=12.0, ge=0, description="Noise is added of a deviation up to this, 0..255")
    blur_px: float = Field(default=1.5, ge=0, description="Pictures are blurred by a deviation up to this")


class _Net(nn.Module):
    """Picture -> logits at half its side: 'in the middle of a window'. What is around is seen at an eighth of it."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down1 = _step(channels, width, 5, 2)
        self.down2 = _step(width, 2 * width, 3, 2)
        self.down3 = _step(2 * width, 4 * width, 3, 2)
        self.around = _step(4 * width, 4 * width, 3, 1)
        self.up2 = _step(6 * width, 2 * width, 1, 1)
        self.up1 = _step(3 * width, width, 3, 1)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: float32[N, C, H, W], -1..1 -> logits: float32[N, H / 2, W / 2]."""
        one = self.down1(x)
        two = self.down2(one)
        three = self.around(self.down3(two))
        two = self.up2(torch.cat([two, _grown(three, two)], dim=1))
        logits: Tensor = self.out(self.up1(torch.cat([one, _grown(two, one)], dim=1)))
        return logits[:, 0]


def _step(inside: int, outside: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


def _grown(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


@dataclass(frozen=True)
class Detector:
    """Finds objects in pictures of the size that it was trained on.

    figures: how good it is on pictures that it never saw, as they are and with noise and blur; plain values for JSON.
    """

    net: nn.Module
    threshold: float
    figures: dict[str, Any]

    def find(self, images: Images) -> tuple[Boxes, ...]:
        """The boxes around what is found in each picture. images: uint8[N, H, W, C] -> N of float32[K, 4], pixels."""
        return _boxes(probabilities(self.net, images), self.threshold)


@torch.no_grad()
def probabilities(net: nn.Module, images: Images) -> Maps:
    """images: uint8[N, H, W, C] -> float32[N, H / 2, W / 2]: how likely each place is the middle of an object."""
    net.eval()
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    return np.concatenate([torch.sigmoid(net(_scaled(chunk))).numpy() for chunk in chunks])


def fit_detector(
    images: Images,
    boxes: Sequence[Boxes],
    settings: DetectorSettings | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Detector:
    """A detector trained on pictures with boxes: a small convolutional network, and a threshold on what it gives.

    It learns the middles of boxes, so that two side by side are two. What hangs together is one object, if its
    probabilities sum to the threshold; its box is that of the middle, grown. The threshold is the one at which as many
    are found in held-out pictures as there are. Pictures are mirrored, blurred and made noisy as it learns, for samples
    are seldom as clean as photos are.

    images: uint8[N, H, W, C], square, RGB or grey, N >= 20; boxes: float32[K, 4] for each, pixels.

    Raises:
        ValueError: too few pictures, or boxes in none, or in none of those that it learns from or chooses by.
    """
    settings = settings or DetectorSettings()
    if len(images) < LEAST_PICTURES or len(images) != len(boxes) or not any(len(own) for own in boxes):
        raise ValueError(
            f"{len(images)} pictures with {sum(map(len, boxes))} boxes can't train a detector; give {LEAST_PICTURES} "
            "pictures or more, and boxes in some of them"
        )
    order = permutation(len(images), philox(seed, Stream.BOXES, _PARTS))
    held = max(2, round(len(images) * settings.held_out_share))
    judging, choosing, training = np.split(order, [held // 2, held])
    for part, what in ((training, "train the detector"), (choosing, "choose its threshold")):
        if not any(len(boxes[i]) for i in part):
            with_boxes = sum(1 for own in boxes if len(own))
            raise ValueError(
                f"{with_boxes} of {len(boxes)} pictures have boxes, and none of the {len(part)} that {what}; give more "
                "pictures with boxes"
            )
    net = _trained(images[training], [boxes[i] for i in training], settings, seed, say or (lambda text: None))
    true = [boxes[i] for i in choosing]
    threshold = _equal_count(probabilities(net, images[choosing]), sum(map(len, true)))
    random = np.random.Generator(philox(seed, Stream.BOXES, _HELD))
    degraded = np.stack([_degraded(images[i], random, settings) for i in judging])
    true = [boxes[i] for i in judging]
    figures = {
        "trained_on": len(training),
        "threshold": round(threshold, 4),
        "held_out": _quality(_boxes(probabilities(net, images[judging]), threshold), true),
        "held_out_degraded": _quality(_boxes(probabilities(net, degraded), threshold), true),
    }
    return Detector(net, threshold, figures)


def _trained(
    images: Images, boxes: list[Boxes], settings: DetectorSettings, seed: int, say: Callable[[str], None]
) -> nn.Module:
    size_px, channels = images.shape[1], images.shape[3]
    net = _Net(channels, settings.width)
    _initialise(net, seed)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    cells = -(-size_px // _STRIDE)
    targets = np.stack([covered(own, size_px, cells, _CORE) for own in boxes])
    turned = np.stack([covered(mirrored(own, size_px), size_px, cells, _CORE) for own in boxes])
    adam = torch.optim.Adam(net.parameters(), settings.learning_rate)
    batches = -(-len(images) // settings.batch_images)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, batches * settings.epochs)
    for epoch in range(settings.epochs):
        random = np.random.Generator(philox(seed, Stream.BOXES, _CHANGES, epoch))
        order = permutation(len(images), philox(seed, Stream.BOXES, _ORDER, epoch))
        total = 0.0
        for rows in np.array_split(order, batches):
            mirror = random.random(len(rows)) < 0.5
            seen = [_degraded(images[row], random, settings) for row in rows]
            x = np.stack([image[:, ::-1] if over else image for image, over in zip(seen, mirror, strict=True)])
            y = np.where(mirror[:, None, None], turned[rows], targets[rows]).astype(np.float32)
            loss = F.binary_cross_entropy_with_logits(net(_scaled(x)), torch.from_numpy(y))
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        say(f"detector: epoch {epoch + 1} of {settings.epochs}, cross-entropy {total / len(images):.4f}")
    return net


def _initialise(net: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(int(philox(seed, Stream.BOXES, _NETWORK).random_raw()) >> 1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, (2 / fan_in) ** 0.5, generator=draw)
                if module.bias is not None:
                    module.bias.zero_()


def _degraded(image: Images, random: np.random.Generator, settings: DetectorSettings) -> Images:
    """The picture blurred and made noisy, each by a random part of what the settings allow."""
    blur_px, levels = random.random(2) * (settings.blur_px, settings.noise_levels)
    seen = image.astype(np.float32)
    if blur_px > 0.1:  # less of it leaves the picture as it is
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), blur_px), np.float32).reshape(image.shape)
    seen = seen + random.standard_normal(image.shape, dtype=np.float32) * np.float32(levels)
    return np.asarray(seen.round().clip(0, 255), np.uint8)


def _scaled(images: Images) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return x.to(torch.float32).div(127.5).sub(1.0).contiguous(memory_format=torch.channels_last)


def _parts(probability: Maps) -> tuple[Boxes, Values]:
    """What hangs together, corners too, at places more likely than `_EXTENT`: boxes, and the sums of probabilities.

    Boxes are grown from the middles that were learned to the whole.
    """
    mask = (probability >= _EXTENT).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    cores = stats[1:count, :4].astype(np.float32) * _STRIDE
    sides = cores[:, 2:] / _CORE
    starts = cores[:, :2] + cores[:, 2:] / 2 - sides / 2
    limit = np.array(mask.shape[::-1], np.float32) * _STRIDE
    ends, starts = np.minimum(starts + sides, limit), np.maximum(starts, 0)
    sums = np.bincount(labels.ravel(), weights=probability.ravel(), minlength=count)[1:].astype(np.float64)
    return np.asarray(np.concatenate([starts, ends - starts], axis=1), np.float32), sums


def _boxes(maps: Maps, threshold: float) -> tuple[Boxes, ...]:
    return tuple(boxes[sums >= threshold] for boxes, sums in map(_parts, maps))


def _equal_count(maps: Maps, wanted: int) -> float:
    """The threshold at which as many objects are found as are wanted; 0 where there are never so many."""
    sums = np.sort(np.concatenate([_parts(probability)[1] for probability in maps]))[::-1]
    return float((sums[wanted - 1] + sums[wanted]) / 2) if 0 < wanted < len(sums) else 0.0


def _quality(found: Sequence[Boxes], true: Sequence[Boxes]) -> dict[str, Any]:
    """Plain values: an object counts as found where the boxes overlap by 0.3 or more of both together."""
    hits = sum(matches(one, other, _SAME) for one, other in zip(found, true, strict=True))
    counts, truths = (np.array([len(own) for own in of]) for of in (found, true))
    return {
        "pictures": len(truths),
        "objects": int(truths.sum()),
        "found": int(counts.sum()),
        "precision": round(hits / int(counts.sum()), 4) if counts.any() else None,
        "recall": round(hits / int(truths.sum()), 4) if truths.any() else None,
        "count_error": round(float(np.abs(counts - truths).mean()), 4),
        "count_right": round(float((counts == truths).mean()), 4),
    }
