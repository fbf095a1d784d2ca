"""The suite `fast`: AutoAttack's worst case for a small part of its passes.

Cheap first, and a broken sample leaves at once. Almost all passes of a suite go into samples that hold: so the long
gradient-based attacks and the long random search (`margin_left`) are for those that the short ones brought near another
class. FAB-T in l2 and l1 works on all: a network trained in linf hides its gradients there from APGD, and no margin
tells of it. The controls that a trust verdict compares with the rest, one step and Square, come last and work on every
sample left.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_ai.core.budget import Norm

_SHORT = "apgd-ce:steps=10,apgd-t:steps=10:targets=3"
_LONG = "apgd-t:steps=30:targets=5:margin_left=0.45,apgd-ce:restarts=2:margin_left=0.35"
_LONGEST = "apgd-t:targets=5:margin_left=0.25"
_BOUNDARY = "fab-t:steps=50:targets=3:minimize=false,fab-t:minimize=false"
_CONTROLS = (
    "fgsm,square:query_budget=100:rescale_schedule=true,square:query_budget=4000:rescale_schedule=true:margin_left=0.25"
)

FAST: Mapping[Norm, str] = {
    "linf": f"{_SHORT},{_LONG},odi-pgd:margin_left=0.25,{_LONGEST},{_CONTROLS}",
    "l2": f"{_SHORT},{_BOUNDARY},{_LONG},{_LONGEST},{_CONTROLS}",
    "l1": f"apgd-ce:steps=20,apgd-t:steps=20:targets=3:radius_schedule=true,{_BOUNDARY}"
    ",apgd-t:steps=50:targets=5:radius_schedule=true:margin_left=0.45"
    ",apgd-ce:restarts=2:radius_schedule=true:margin_left=0.35,apgd-t:targets=5:radius_schedule=true:margin_left=0.25"
    f",{_CONTROLS}",
    "l0": "sigma-zero:steps=200:minimize=false,fmn:minimize=false,fgsm,noise",
}
"""Norm -> attacks in order. The fractions of the margin were read off linf runs on the last 6,000 training images of
MNIST (n = 200 to 500): of what the long members broke on two PGD-trained networks at most 21 % of the margin was left
after the short runs of APGD; on an FGSM-RS network with masked gradients (33 % robust under AutoAttack) it was up to
39 %, and with 0.3, 0.2 and 0.15 in place of these 4 points more stayed robust than under AutoAttack. FAB-T was added
where a PGD-trained network (linf 0.3) kept 62.8 % in l2 at 2.0 and 19.6 % in l1 at 10 by these lists without it and 5.2
and 2.4 % under AutoAttack (test images); its steps and targets were chosen on 200 of the same 6,000 images. ODI-PGD was
added where Square broke 8 of 290 images that the attacks before it did not: restarts that begin apart break 7 of those,
their starts alone break none; on an FGSM-RS network with masked gradients 598 of 1,500 images are left with it and 650
without (300 and 1,500 of the same 6,000 images)."""

FAST_ON_SCORES: Mapping[Norm, str] = {"linf": "square,noise", "l2": "square,noise", "l1": "square,noise", "l0": "noise"}
FAST_ON_LABELS: Mapping[Norm, str] = {
    "linf": "hopskipjump:minimize=false,noise",
    "l2": "hopskipjump:minimize=false,noise",
    "l1": "noise",
    "l0": "noise",
}
"""The same for a target that offers scores only, or labels only."""
