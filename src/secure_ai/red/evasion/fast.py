"""The suite `fast`."""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.budget import Norm

FAST: Mapping[Norm, str] = {
    "linf": "apgd-ce:steps=20,apgd-t:steps=20:targets=3,fgsm,square:query_budget=200",
    "l2": "apgd-ce:steps=20,apgd-t:steps=20:targets=3,fgsm,square:query_budget=200",
    "l1": "apgd-ce:steps=20,apgd-t:steps=20:targets=3,fgsm,square:query_budget=200",
    "l0": "sigma-zero:steps=100:minimize=false,fmn:minimize=false,fgsm,noise",
}
