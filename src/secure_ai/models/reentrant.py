"""Networks that several threads may call at once, because no layer keeps anything between or beside two calls."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.module import _has_any_global_hook

LAYERS = frozenset({
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv2d,
    nn.ConvTranspose2d, nn.Dropout, nn.Dropout2d, nn.ELU, nn.Flatten, nn.GELU, nn.GroupNorm, nn.Hardswish, nn.Identity,
    nn.LayerNorm, nn.LeakyReLU, nn.Linear, nn.LogSoftmax, nn.MaxPool2d, nn.ReLU, nn.ReLU6, nn.Sequential, nn.SiLU,
    nn.Sigmoid, nn.Softmax, nn.Softplus, nn.Tanh, nn.ZeroPad2d,
})  # fmt: skip
"""Of torch; in evaluation mode."""
OWN = frozenset(f"secure_ai.models.{name}" for name in ("networks", "keras_io", "keras_modules", "wrappers"))
"""This package's modules of networks and layers."""


def is_reentrant(network: nn.Module) -> bool:
    """Whether two threads may call `network`; what is not known does not pass. It must be in evaluation mode."""
    return not _has_any_global_hook() and all(_keeps_nothing(module) for module in network.modules())


def _keeps_nothing(module: nn.Module) -> bool:
    known = type(module) in LAYERS or type(module).__module__ in OWN
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    changed = "forward" in vars(module) or module._compiled_call_impl is not None
    return known and not module.training and not any(hooks) and not changed
