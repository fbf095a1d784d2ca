"""The reference-grade attacks as rows of the catalogue."""

from __future__ import annotations

from typing import cast

from secure_ai.red.evasion.attacks.apgd import apgd_ce, apgd_dlr, apgd_targeted
from secure_ai.red.evasion.attacks.cw import cw
from secure_ai.red.evasion.attacks.fab import fab, fab_targeted
from secure_ai.red.evasion.attacks.hopskipjump import hopskipjump
from secure_ai.red.evasion.attacks.minimum_norm import ddn, deepfool, fmn
from secure_ai.red.evasion.attacks.odi import odi_pgd
from secure_ai.red.evasion.attacks.sigma_zero import sigma_zero
from secure_ai.red.evasion.attacks.square import square
from secure_ai.red.evasion.contract import Attack, AttackEntry, Setting

STEPS, RESTARTS, TARGETS = (1.0, 100_000.0), (1.0, 1000.0), (1.0, 1000.0)
QUERIES, SMALL = (1.0, 1e7), (1e-6, 100.0)

APGD_SETTINGS: dict[str, Setting] = {"steps": 100, "restarts": 1, "eot_samples": 1, "radius_schedule": False}
APGD_LIMITS = {"steps": STEPS, "restarts": RESTARTS, "eot_samples": (1.0, 1000.0)}
APGD_SOURCE = "Croce and Hein, 2003.01690, algorithm 1; l1: 2103.01208, algorithm 1"
FAB_SOURCE = "Croce and Hein, 1907.02044, algorithm 1"

REFERENCE_ATTACKS: dict[str, AttackEntry] = {
    "apgd-ce": AttackEntry(
        attack=cast(Attack, apgd_ce),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="budget",
        source=APGD_SOURCE,
        settings=APGD_SETTINGS,
        limits=APGD_LIMITS,
    ),
    "apgd-dlr": AttackEntry(
        attack=cast(Attack, apgd_dlr),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="budget",
        source=f"{APGD_SOURCE}; loss: equation 6",
        settings=APGD_SETTINGS,
        limits=APGD_LIMITS,
    ),
    "apgd-t": AttackEntry(
        attack=cast(Attack, apgd_targeted),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="budget",
        source=f"{APGD_SOURCE}; loss: equation 7",
        settings={**APGD_SETTINGS, "targets": 9},
        limits={**APGD_LIMITS, "targets": TARGETS},
    ),
    "odi-pgd": AttackEntry(
        attack=cast(Attack, odi_pgd),
        norms=("linf", "l2"),
        knowledge="white-box",
        kind="budget",
        source="Tashiro, Song and Ermon, 2003.06878 (ODI); start: 1912.00049, sections 3.3 and 3.4",
        settings={"odi_steps": 2, "steps": 20, "restarts": 24},
        limits={"odi_steps": (0.0, 1000.0), "steps": STEPS, "restarts": RESTARTS},
    ),
    "fab": AttackEntry(
        attack=cast(Attack, fab),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="minimal",
        source=FAB_SOURCE,
        settings={"steps": 100, "restarts": 1, "minimize": True},
        limits={"steps": STEPS, "restarts": RESTARTS},
    ),
    "fab-t": AttackEntry(
        attack=cast(Attack, fab_targeted),
        norms=("linf", "l2", "l1"),
        knowledge="white-box",
        kind="minimal",
        source=f"{FAB_SOURCE}; targeted: 2003.01690, section 5",
        settings={"steps": 100, "restarts": 1, "targets": 9, "minimize": True},
        limits={"steps": STEPS, "restarts": RESTARTS, "targets": TARGETS},
    ),
    "square": AttackEntry(
        attack=cast(Attack, square),
        norms=("linf", "l2", "l1"),
        knowledge="score-based",
        kind="budget",
        source="Andriushchenko et al., 1912.00049, algorithms 1 to 3; l1 as in AutoAttack",
        settings={"query_budget": 5000, "restarts": 1, "p_init": 0.8, "rescale_schedule": False},
        limits={"query_budget": QUERIES, "restarts": RESTARTS, "p_init": (1e-4, 1.0)},
    ),
    "ddn": AttackEntry(
        attack=cast(Attack, ddn),
        norms=("l2",),
        knowledge="white-box",
        kind="minimal",
        source="Rony et al., 1811.09600, algorithm 1",
        settings={"steps": 100, "gamma": 0.05, "minimize": True},
        limits={"steps": STEPS, "gamma": (1e-6, 0.5)},
    ),
    "fmn": AttackEntry(
        attack=cast(Attack, fmn),
        norms=("linf", "l2", "l1", "l0"),
        knowledge="white-box",
        kind="minimal",
        source="Pintor et al., 2102.12827, algorithm 1",
        settings={"steps": 100, "minimize": True},
        limits={"steps": STEPS},
    ),
    "cw": AttackEntry(
        attack=cast(Attack, cw),
        norms=("l2",),
        knowledge="white-box",
        kind="minimal",
        source="Carlini and Wagner, 1608.04644, section 5",
        settings={
            "steps": 1000,
            "binary_search_steps": 9,
            "learning_rate": 0.01,
            "initial_const": 0.001,
            "confidence": 0.0,
            "minimize": True,
        },
        limits={
            "steps": STEPS,
            "binary_search_steps": (1.0, 100.0),
            "learning_rate": SMALL,
            "initial_const": SMALL,
            "confidence": (0.0, 1000.0),
        },
    ),
    "deepfool": AttackEntry(
        attack=cast(Attack, deepfool),
        norms=("linf", "l2"),
        knowledge="white-box",
        kind="minimal",
        source="Moosavi-Dezfooli et al., 1511.04599, algorithm 2 and section 3.3",
        settings={"steps": 50, "overshoot": 0.02, "targets": 9},
        limits={"steps": STEPS, "overshoot": (0.0, 1.0), "targets": TARGETS},
    ),
    "sigma-zero": AttackEntry(
        attack=cast(Attack, sigma_zero),
        norms=("l0",),
        knowledge="white-box",
        kind="minimal",
        source="Cina et al., 2402.01879, algorithm 1",
        settings={
            "steps": 1000,
            "step_size": 1.0,
            "sigma": 0.001,
            "threshold": 0.3,
            "threshold_step": 0.01,
            "minimize": True,
        },
        limits={
            "steps": STEPS,
            "step_size": SMALL,
            "sigma": SMALL,
            "threshold": (0.0, 1.0),
            "threshold_step": (0.0, 1.0),
        },
    ),
    "hopskipjump": AttackEntry(
        attack=cast(Attack, hopskipjump),
        norms=("linf", "l2"),
        knowledge="decision-based",
        kind="minimal",
        source="Chen, Jordan and Wainwright, 1904.02144, algorithm 2",
        settings={
            "query_budget": 5000,
            "initial_gradient_queries": 100,
            "max_gradient_queries": 10_000,
            "minimize": True,
        },
        limits={"query_budget": QUERIES, "initial_gradient_queries": QUERIES, "max_gradient_queries": QUERIES},
    ),
}
