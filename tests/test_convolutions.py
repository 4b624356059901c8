"""Convolutions as products of matrices: the library's values and gradients, and only where they pay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.convolutions import Doubling, Down, Halving, Up


def _gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    draw = torch.Generator().manual_seed(1)
    weights = torch.randn(y.shape, generator=draw, dtype=y.dtype)
    return (y.detach(), *torch.autograd.grad((y * weights).sum(), leaves))


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("px", [2, 4, 8, 14])
def test_values_and_gradients_are_the_librarys(kernel: int, layout: Any, px: int) -> None:
    draw = torch.Generator().manual_seed(0)
    padding = (kernel - 1) // 2
    weight = torch.randn(6, 5, kernel, kernel, generator=draw, dtype=torch.float64).contiguous(memory_format=layout)
    large = torch.randn(3, 5, px, px, generator=draw, dtype=torch.float64).contiguous(memory_format=layout)
    small = torch.randn(3, 6, px // 2, px // 2, generator=draw, dtype=torch.float64).contiguous(memory_format=layout)
    for ours, theirs, x in (
        (Down.apply, lambda x, w: F.conv2d(x, w, None, 2, padding), large),
        (Up.apply, lambda x, w: F.conv_transpose2d(x, w, None, 2, padding, kernel % 2), small),
    ):
        found = _gradients(lambda x, w, apply=ours: apply(x, w, padding), x, weight)
        for one, other in zip(found, _gradients(theirs, x, weight), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_gets_no_gradient(frozen: int) -> None:
    inputs = [torch.randn(2, 4, 4, 4), torch.randn(4, 4, 5, 5)]
    for number, value in enumerate(inputs):
        value.requires_grad_(number != frozen)
    for function in (Down.apply, Up.apply):
        function(*inputs, 2).sum().backward()  # type: ignore[no-untyped-call]
        assert [value.grad is None for value in inputs] == [number == frozen for number in (0, 1)]
        inputs[1 - frozen].grad = None


def test_they_are_used_where_they_pay_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []

    def watch(function: Any) -> None:
        apply = function.apply

        def watched(*given: Any) -> Tensor:
            used.append(function.__name__)
            y: Tensor = apply(*given)
            return y

        monkeypatch.setattr(function, "apply", watched)

    watch(Down)
    watch(Up)

    def calls(module: torch.nn.Module, x: Tensor) -> list[str]:
        used.clear()
        module(x)
        return list(used)

    with torch.no_grad():
        wide = Halving(256, 256, 5, 2, 2, bias=False)
        assert calls(wide, torch.zeros(1, 256, 8, 8)) == ["Down"]
        assert calls(wide, torch.zeros(1, 256, 16, 16)) == []
        assert calls(Halving(64, 64, 5, 2, 2, bias=False), torch.zeros(1, 64, 8, 8)) == []
        up = Doubling(256, 256, 5, 2, 2, 1, bias=False)
        assert calls(up, torch.zeros(1, 256, 4, 4)) == ["Up"]
        assert calls(up, torch.zeros(1, 256, 8, 8)) == []
        with torch.autocast("cpu", torch.bfloat16):
            assert calls(wide, torch.zeros(1, 256, 8, 8)) == []
