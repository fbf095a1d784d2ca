"""The gradient of a convolution at a one-channel input, as one matrix product and one sum over columns (col2im).

The same sums as the library's kernel, which is made for many input channels: on the reference machine (float32, one
thread) it took 3 to 5 times longer for 3x3, 4x4 and 5x5 kernels over 28x28 images, a third of an attack's step. In
bfloat16 (AVX512-BF16) it took 4 times longer for 3x3 and 5 times for 4x4 kernels; there the columns are bfloat16 and
their sum is float32. With three channels neither is always the faster, so those are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CONVOLUTIONS = (torch.conv2d, torch.ops.aten.conv2d.default)


class _ByColumns(torch.autograd.Function):
    """conv2d with frozen weights, whose backward pass is `fold(weight^T gradient)`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.settings = tuple(x.shape[2:]), tuple(weight.shape[2:]), dilation, padding, stride
        return torch.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        columns = weight.to(gradient.dtype).flatten(1).t() @ gradient.flatten(2)
        return functional.fold(columns.to(weight.dtype), *ctx.settings), None, None, None, None, None


class FrozenConvolutions(TorchFunctionMode):
    """Inside, convolutions of one-channel float32 inputs with frozen weights take their input's gradient by columns.

    In the precision of their result, which is a lower one under autocast.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of every function of its own."""
        if function in CONVOLUTIONS and not kwargs and _fits(*args):
            return _ByColumns.apply(*_six(*args))  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


def _six(
    x: Tensor, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, *_: Any
) -> tuple[Any, ...]:
    return x, weight, bias, stride, padding, dilation


def _fits(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, *_: Any) -> bool:
    """Whether columns may stand in: images of one channel (so one group), padding in numbers, frozen weights."""
    frozen = [weight] if bias is None else [weight, bias]
    return (
        type(x) is Tensor
        and x.dim() == 4
        and x.shape[1] == 1
        and x.requires_grad
        and not isinstance(padding, str)
        and all(p.dtype is x.dtype is torch.float32 and not p.requires_grad for p in frozen)
    )
