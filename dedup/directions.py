"""Where to look: the directions in which pictures differ most for what near-duplicate changes do to them."""

from dataclasses import dataclass

import torch

from manifests.schema import THUMB_PX

_LUMA_FREQUENCIES, _COLOUR_FREQUENCIES = 24, 8
_COLOURS = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))  # Y, Cb, Cr of JPEG
_PRIOR_IMAGES = 50
_LEAST_WITHIN = 1e-3


@dataclass(frozen=True)
class Directions:
    """K directions in the space of thumbs: the coordinates of x are `x @ matrix - origin`.

    in_frequencies: float32[F, K], of the amounts of the frequencies of cosines(); matrix: float32[3072, K], of pixels
    changes move a picture by 1 (root of the mean square) in each direction
    origin: float32[K], puts the mean of the pictures and their mirror images at 0
    odd: bool[K]; mirroring the picture negates the coordinate where set, and leaves it alone where not
    """

    in_frequencies: torch.Tensor
    matrix: torch.Tensor
    origin: torch.Tensor
    odd: torch.Tensor


def cosines() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The low frequencies of a thumb: float32[3072, F], unit vectors but for the colour weights.

    Also bool[F], whether mirroring negates a frequency's amount, and float32[F], how strong it is in photos.
    """
    places, frequencies = torch.arange(THUMB_PX, dtype=torch.float64), torch.arange(THUMB_PX, dtype=torch.float64)
    waves = torch.cos(torch.pi / (2 * THUMB_PX) * torch.outer(frequencies, 2 * places + 1)) * (2 / THUMB_PX) ** 0.5
    waves[0] /= 2**0.5
    columns, odd, strength = [], [], []
    for number, colour in enumerate(torch.tensor(_COLOURS, dtype=torch.float64)):
        most = _COLOUR_FREQUENCIES if number else _LUMA_FREQUENCIES
        for down in range(most):
            for across in range(most - down):
                wave = torch.outer(waves[down], waves[across])
                columns.append((wave[..., None] * colour).flatten())
                odd.append(across % 2 == 1)
                # Power falls with the square of the frequency; colours have a tenth of it.
                strength.append((0.1 if number else 1.0) / (1 + down * down + across * across))
    return torch.stack(columns, 1).float(), torch.tensor(odd), torch.tensor(strength)


def find_directions(
    clean: torch.Tensor,
    seen: torch.Tensor,
    images: int,
    count: int,
    frequencies: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> Directions:
    """The `count` directions with the largest share of differences between pictures in all that differs.

    clean: float32[N, F], amounts of each frequency in pictures; seen: float32[N, F], in a changed copy of each
    images: how many different pictures there are among them
    frequencies: what cosines() gives

    Fisher's linear discriminants, each picture a class of its own, the mirror images being pictures too.
    """
    waves, odd, strength = frequencies
    mean = clean.mean(dim=0) * ~odd
    prior = (strength / strength.sum()).double()
    values, vectors, odds = [], [], []
    between_all = (clean - mean).double()
    within_all = (seen - clean).double()
    scale = between_all.square().sum(dim=1).mean().clamp(min=1e-6)
    for parity in (False, True):
        # Mirrored pictures join the statistics, so frequencies of different parity don't go together.
        chosen = torch.nonzero(odd == parity).flatten()
        expected = torch.diag(prior[chosen] * scale)
        about, moved = between_all[:, chosen], within_all[:, chosen]
        # A few pictures say little of all directions: what photos are like in general stands in for some more.
        total = (about.t() @ about * (images / len(about)) + _PRIOR_IMAGES * expected) / (images + _PRIOR_IMAGES)
        within = moved.t() @ moved / len(moved)
        least = (_LEAST_WITHIN + 10 / (images + _PRIOR_IMAGES)) * within.diagonal().mean() + 1e-6 * scale
        within += least * torch.eye(len(chosen), dtype=torch.float64)
        root = torch.linalg.cholesky(within)
        half = torch.linalg.solve_triangular(root, total, upper=False)
        ratio = torch.linalg.solve_triangular(root, half.t(), upper=False)
        found, turned = torch.linalg.eigh((ratio + ratio.t()) / 2)
        placed = torch.zeros(len(odd), len(chosen), dtype=torch.float64)
        placed[chosen] = torch.linalg.solve_triangular(root.t(), turned, upper=True)
        values.append(found)
        vectors.append(placed)
        odds.append(torch.full((len(chosen),), parity))
    best = torch.cat(values).argsort(descending=True, stable=True)[:count]
    in_frequencies = torch.cat(vectors, 1)[:, best]
    return Directions(
        in_frequencies.float(),
        (waves.double() @ in_frequencies).float(),
        (mean.double() @ in_frequencies).float(),
        torch.cat(odds)[best],
    )
