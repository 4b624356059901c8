"""Convolutions of stride 2 as one product of matrices, where that beats the library's: on CPUs, at the small end.

Between 8x8 and 4x4 places, with a million weights or more, oneDNN reaches half to two thirds of the machine's sgemm
speed. A product of the weights with columns of the image reaches nearly all of it: a whole update of 64 px networks
takes 10 to 16 % less time. With fewer weights, or more places, the columns cost more than they gain.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_LEAST_WEIGHTS = 1 << 20
_MOST_PX = 8  # of the larger of both sides
_STRIDE = 2


class Halving(nn.Conv2d):
    """A convolution of stride 2: its parameters, and what it gives, are those of nn.Conv2d."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float[N, C, H, W] -> float[N, out, H / 2, W / 2]."""
        if _pays(x, self.weight, x.shape[-1]):
            y: Tensor = Down.apply(x, self.weight, int(self.padding[0]))  # type: ignore[no-untyped-call]
            return y
        return super().forward(x)


class Doubling(nn.ConvTranspose2d):
    """A fractionally strided convolution: its parameters, and what it gives, are those of nn.ConvTranspose2d."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: float[N, C, H, W] -> float[N, out, 2 H, 2 W]."""
        if output_size is None and _pays(x, self.weight, 2 * x.shape[-1]):
            y: Tensor = Up.apply(x, self.weight, int(self.padding[0]))  # type: ignore[no-untyped-call]
            return y
        return super().forward(x, output_size)


class FromPixel(nn.ConvTranspose2d):
    """A transposed convolution of a single pixel, as a product of matrices, several times as fast."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """x: float[N, C] -> float[N, out, k, k], channels last."""
        return _image(x @ _matrix(self.weight), len(x), self.kernel_size[0])


class ToPixel(nn.Conv2d):
    """A convolution of an image of the kernel's own size, as a product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        """x: float[N, C, k, k] -> float[N, out]."""
        return x.permute(0, 2, 3, 1).flatten(1) @ _matrix(self.weight).t()


def _pays(x: Tensor, weight: Tensor, larger_px: int) -> bool:
    return (
        x.is_cpu
        and weight.numel() >= _LEAST_WEIGHTS
        and larger_px <= _MOST_PX
        and larger_px % _STRIDE == 0
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class Down(torch.autograd.Function):
    """The convolution. x: float[N, C, H, W], even sides; weight: float[out, C, k, k] -> float[N, out, H / 2, W / 2]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        columns = _columns(x, weight.shape[-1], padding)
        ctx.save_for_backward(columns if ctx.needs_input_grad[1] else None, weight)
        ctx.padding, ctx.shape = padding, x.shape
        return _image(columns @ _matrix(weight).t(), len(x), x.shape[2] // _STRIDE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        columns, weight = ctx.saved_tensors
        dy = _places(gradients[0])
        images, _, height, _ = ctx.shape
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _folded(dy @ _matrix(weight), images, height // _STRIDE, weight.shape[-1], ctx.padding)
        if ctx.needs_input_grad[1]:
            dw = _kernels(dy.t() @ columns, weight)
        return dx, dw, None


class Up(torch.autograd.Function):
    """Its transpose. x: float[N, C, H, W]; weight: float[C, out, k, k] -> float[N, out, 2 H, 2 W]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _folded(_places(x) @ _matrix(weight), len(x), x.shape[2], weight.shape[-1], padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        columns = _columns(gradients[0], weight.shape[-1], ctx.padding)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = _image(columns @ _matrix(weight).t(), len(x), x.shape[2])
        if ctx.needs_input_grad[1]:
            dw = _kernels(_places(x).t() @ columns, weight)
        return dx, dw, None


def _columns(x: Tensor, kernel: int, padding: int) -> Tensor:
    """What each place of the smaller side looks at. x: float[N, C, H, W] -> float[N * H/2 * W/2, k * k * C]."""
    images, channels, height, width = x.shape
    after = kernel - _STRIDE - padding
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, after, padding, after))
    by_image, by_row, by_place, by_channel = padded.stride()
    shape = (images, height // _STRIDE, width // _STRIDE, kernel, kernel * channels)
    views = padded.as_strided(shape, (by_image, _STRIDE * by_row, _STRIDE * by_place, by_row, by_channel))
    return views.reshape(-1, kernel * kernel * channels)


def _folded(columns: Tensor, images: int, px: int, kernel: int, padding: int) -> Tensor:
    """The transpose of `_columns`: float[N * px * px, k * k * C] -> float[N, C, 2 px, 2 px], channels last."""
    parts = columns.view(images, px, px, kernel, kernel, -1)
    more = (kernel - 1) // _STRIDE
    # Rows and columns apart by their remainder, so that each kernel's four corners are added at once.
    whole = columns.new_zeros(images, px + more, _STRIDE, px + more, _STRIDE, parts.shape[-1])
    for top in range(0, kernel, _STRIDE):
        rows = min(_STRIDE, kernel - top)
        for left in range(0, kernel, _STRIDE):
            places = min(_STRIDE, kernel - left)
            part = parts[:, :, :, top : top + rows, left : left + places].permute(0, 1, 3, 2, 4, 5)
            y, x = top // _STRIDE, left // _STRIDE
            whole[:, y : y + px, :rows, x : x + px, :places].add_(part)
    side = _STRIDE * (px + more)
    inner = slice(padding, padding + _STRIDE * px)
    return whole.view(images, side, side, -1)[:, inner, inner].contiguous().permute(0, 3, 1, 2)


def _matrix(weight: Tensor) -> Tensor:
    """float[A, B, k, k] -> float[A, k * k * B]: a view where the weight is channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _kernels(matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_matrix`, channels last."""
    first, second, height, width = like.shape
    return matrix.view(first, height, width, second).permute(0, 3, 1, 2)


def _places(x: Tensor) -> Tensor:
    """float[N, C, H, W] -> float[N * H * W, C]: a view where x is channels last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(places: Tensor, images: int, px: int) -> Tensor:
    """The inverse of `_places`, channels last."""
    return places.view(images, px, px, -1).permute(0, 3, 1, 2)
