"""One call, one attack: adversarial examples for a network and tensors of your own.

    x_adv = secure_ai.attacks.pgd(net, x, y, norm="linf", eps=8 / 255, steps=40)

Every attack takes the same first arguments:

- `net`: a `torch.nn.Module`, or a function from images (N, C, H, W) to logits (N, K). A module is called in evaluation
  mode. Its training mode, weights and gradients, and the random state of your process, are as before afterwards.
- `x`: (N, C, H, W), floating point in [0, 1]. `y`: (N,) integers, the true labels.
- `norm`: `linf`, `l2`, `l1` or `l0`. `eps`: the largest distance that is allowed, a number or a text such as `8/255`.
- `seed`: of everything random in the attack. The same seed gives the same examples.
- `target_label`: the class that the model shall answer, one for all or (N,); None: any class but the true one.
- `mean`, `std`: of the normalisation that `net` expects, per channel; empty: none.

Each returns `x_adv` (N, C, H, W), on the device and in the dtype of `x`, inside [0, 1] and the budget. Where an attack
fails, that is its strongest attempt. A minimum-norm attack returns the smallest change that it found, also outside eps.
One attack shows that a model can be fooled, never that it cannot: for a robust accuracy use `secure_ai.attack`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from secure_ai.core.budget import Norm
from secure_ai.red.evasion.single import run_single

Model = Callable[[Any], Any]
Floats = Sequence[float]
Eps = float | str
Target = int | Tensor | None

__all__ = [
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "cw",
    "ddn",
    "deepfool",
    "fab",
    "fab_t",
    "fgsm",
    "fmn",
    "hopskipjump",
    "noise",
    "odi_pgd",
    "pgd",
    "sigma_zero",
    "square",
    "transfer",
]


# The arguments that all attacks take come first, then an attack's own settings; written by hand, checked by a test.
# fmt: off
def fgsm(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
         mean: Floats = (), std: Floats = (), labels: str = "true") -> Tensor:
    """Fast gradient sign method (1412.6572): one step along the gradient of the loss. Every norm.

    `labels="predicted"` moves away from the model's own prediction instead of the true label.
    """
    return run_single("fgsm", **locals())


def pgd(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
        mean: Floats = (), std: Floats = (), steps: int = 40, step_size_rel: float = 0.0, restarts: int = 1,
        random_start: bool = True, momentum: float = 0.0, eot_samples: int = 1) -> Tensor:
    """Projected gradient descent (1706.06083). linf, l2, l1.

    `step_size_rel` is a step in units of eps, 0 for 2.5 / steps; `momentum` the decay of accumulated gradients
    (1710.06081); `eot_samples` the passes averaged for one gradient of a random model (1707.07397).
    """
    return run_single("pgd", **locals())


def noise(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
          mean: Floats = (), std: Floats = (), draws: int = 1) -> Tensor:
    """Random changes, the worst of `draws`: a control that no attack may do worse than. Every norm."""
    return run_single("noise", **locals())


def apgd_ce(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
            mean: Floats = (), std: Floats = (), steps: int = 100, restarts: int = 1, eot_samples: int = 1,
            radius_schedule: bool = False) -> Tensor:
    """Auto-PGD on the cross-entropy (2003.01690). linf, l2, l1."""
    return run_single("apgd-ce", **locals())


def apgd_dlr(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
             mean: Floats = (), std: Floats = (), steps: int = 100, restarts: int = 1, eot_samples: int = 1,
             radius_schedule: bool = False) -> Tensor:
    """Auto-PGD on the difference-of-logits ratio (2003.01690). linf, l2, l1."""
    return run_single("apgd-dlr", **locals())


def apgd_t(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
           mean: Floats = (), std: Floats = (), steps: int = 100, restarts: int = 1, eot_samples: int = 1,
           radius_schedule: bool = False, targets: int = 9) -> Tensor:
    """Auto-PGD towards each of the `targets` most likely wrong classes (2003.01690). linf, l2, l1."""
    return run_single("apgd-t", **locals())


def odi_pgd(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
            mean: Floats = (), std: Floats = (), odi_steps: int = 2, steps: int = 20, restarts: int = 24) -> Tensor:
    """PGD from starts that `odi_steps` steps make diverse in their logits (2003.06878). linf, l2."""
    return run_single("odi-pgd", **locals())


def fab(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
        mean: Floats = (), std: Floats = (), steps: int = 100, restarts: int = 1, minimize: bool = True) -> Tensor:
    """Fast adaptive boundary (1907.02044), a minimum-norm attack. linf, l2, l1.

    `minimize=False` stops at the first success within eps.
    """
    return run_single("fab", **locals())


def fab_t(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
          mean: Floats = (), std: Floats = (), steps: int = 100, restarts: int = 1, targets: int = 9,
          minimize: bool = True) -> Tensor:
    """FAB towards each of the `targets` most likely wrong classes (2003.01690), minimum-norm. linf, l2, l1."""
    return run_single("fab-t", **locals())


def square(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
           mean: Floats = (), std: Floats = (), query_budget: int = 5000, restarts: int = 1, p_init: float = 0.8,
           rescale_schedule: bool = False) -> Tensor:
    """Square attack (1912.00049): random search that needs scores only. linf, l2, l1.

    `query_budget` is the model calls a sample, `p_init` the fraction of the image that the first squares cover.
    """
    return run_single("square", **locals())


def ddn(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
        mean: Floats = (), std: Floats = (), steps: int = 100, gamma: float = 0.05, minimize: bool = True) -> Tensor:
    """Decoupled direction and norm (1811.09600), a minimum-norm attack. l2.

    `minimize=False` stops at the first success within eps.
    """
    return run_single("ddn", **locals())


def fmn(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
        mean: Floats = (), std: Floats = (), steps: int = 100, minimize: bool = True) -> Tensor:
    """Fast minimum-norm attack (2102.12827). Every norm.

    `minimize=False` stops at the first success within eps.
    """
    return run_single("fmn", **locals())


def cw(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
       mean: Floats = (), std: Floats = (), steps: int = 1000, binary_search_steps: int = 9,
       learning_rate: float = 0.01, initial_const: float = 0.001, confidence: float = 0.0,
       minimize: bool = True) -> Tensor:
    """Carlini and Wagner (1608.04644), a minimum-norm attack. l2.

    `minimize=False` stops at the first success within eps.
    """
    return run_single("cw", **locals())


def deepfool(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
             mean: Floats = (), std: Floats = (), steps: int = 50, overshoot: float = 0.02, targets: int = 9) -> Tensor:
    """DeepFool (1511.04599), a minimum-norm attack by linear steps. linf, l2."""
    return run_single("deepfool", **locals())


def sigma_zero(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
               mean: Floats = (), std: Floats = (), steps: int = 1000, step_size: float = 1.0, sigma: float = 0.001,
               threshold: float = 0.3, threshold_step: float = 0.01, minimize: bool = True) -> Tensor:
    """Sigma-zero (2402.01879), a minimum-norm attack. l0.

    `minimize=False` stops at the first success within eps.
    """
    return run_single("sigma-zero", **locals())


def hopskipjump(net: Model, x: Tensor, y: Tensor, *, norm: Norm, eps: Eps, seed: int = 0, target_label: Target = None,
                mean: Floats = (), std: Floats = (), query_budget: int = 5000, initial_gradient_queries: int = 100,
                max_gradient_queries: int = 10000, minimize: bool = True) -> Tensor:
    """HopSkipJump (1904.02144): needs labels only, a minimum-norm attack. linf, l2.

    `query_budget` is the model calls a sample. `minimize=False` stops at the first success within eps.
    """
    return run_single("hopskipjump", **locals())


def transfer(net: Model, x: Tensor, y: Tensor, *, surrogate: Model, norm: Norm, eps: Eps, seed: int = 0,
             target_label: Target = None, mean: Floats = (), std: Floats = (), steps: int = 40, restarts: int = 1,
             momentum: float = 1.0) -> Tensor:
    """Momentum PGD on another network, `surrogate`, in the hope that `net` is fooled too (1710.06081). linf, l2, l1."""
    return run_single("transfer", **locals())
