"""The mutants: small faults in lines on which a figure depends, and the tests that must notice them."""

from __future__ import annotations

from dataclasses import dataclass

ATTACKS, MATH = "red/evasion/attacks", "red/evasion/math"
SUITE, TRUST, PROBES = "red/evasion/suite", "red/evasion/trust", "red/evasion/trust/probes"
STEPS = "tests/red/evasion/reference"
APGD, FAB = f"{STEPS}/test_apgd_steps.py", f"{STEPS}/test_fab_steps.py"
SQUARE, SQUARE_LAWS = f"{STEPS}/test_square_steps.py", f"{STEPS}/test_square.py"
HSJ, MINIMUM = f"{STEPS}/test_hopskipjump_steps.py", f"{STEPS}/test_minimum_norm.py"
EVASION = "tests/red/evasion"
GRADIENT, PROJECTIONS = f"{EVASION}/test_evasion_gradient.py", f"{EVASION}/test_evasion_projections.py"
STREAMS, LOSSES = f"{EVASION}/test_random_streams.py", f"{EVASION}/test_evasion_losses.py"
VERIFY = f"{EVASION}/test_evasion_verify.py"
HARNESS, THRESHOLDS = f"{EVASION}/test_evasion_harness.py", f"{EVASION}/diagnosis/test_thresholds.py"
DIAGNOSIS = f"{EVASION}/diagnosis/test_diagnosis_checks.py"
ENGINE, PICKLES = "tests/runs/test_store_and_stages.py", "tests/abuse/test_files_torch.py"
STATISTICS, RESULTS = "tests/core/test_statistics.py", "tests/core/test_results.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    Attributes:
        file: relative to the package.
        old: a fragment that stands in the file exactly once, on one line.
        new: what takes its place.
        tests: a test file or a test in it; one of its tests must fail.
        harmless: why nothing observable changes; such a mutant must survive.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    harmless: str = ""


_APGD_RUN, _APGD_STEPS = f"{ATTACKS}/apgd_run.py", f"{ATTACKS}/apgd_steps.py"
_HYPERPLANE, _BOUNDARY = f"{MATH}/hyperplane.py", f"{MATH}/boundary.py"
_PROJECTIONS, _ACTIVE = f"{MATH}/projections.py", f"{MATH}/active_set.py"
_SQUARE, _SHAPES, _HSJ = f"{ATTACKS}/square.py", f"{ATTACKS}/square_shapes.py", f"{ATTACKS}/hopskipjump.py"
_SURFACE, _ALONG, _ONE = f"{PROBES}/surface.py", f"{PROBES}/along.py", f"{PROBES}/one_step.py"
_EXECUTE = "runs/engine/execute.py"

MUTANTS = (
    # APGD: 2003.01690, algorithm 1; l1: 2103.01208, algorithm 1
    Mutant("APGD: checkpoint one step early", _APGD_RUN, "if step - 1 in checkpoints", "if step in checkpoints", APGD),
    Mutant("APGD: rises not reset", _APGD_RUN, "at.rises = step - 1, torch.zeros_like(at.loss)",
           "at.rises = step - 1, at.rises", APGD),
    Mutant("APGD: best gradient never renewed", _APGD_RUN, "where_samples(improved, gradient, at.best_gradient)",
           "at.best_gradient", APGD),
    Mutant("APGD: a rise counts from the best loss", _APGD_RUN, "at.rises += loss > at.loss",
           "at.rises += loss > at.best_loss", APGD),
    Mutant("APGD: the previous iterate is the current", _APGD_RUN, "first=step == 1), at.x_adv",
           "first=step == 1), rule.move(at, samples.x, run.budget, first=True)", APGD),
    Mutant("APGD: the last point counts, not the best", _APGD_RUN, "else loss > at.best_loss",
           "else loss > at.loss", APGD),
    Mutant("APGD: condition 1 without its share", _APGD_STEPS, "at.rises <= RHO * interval", "at.rises <= interval",
           APGD),
    Mutant("APGD: condition 2 inverted", _APGD_STEPS, "~self.halved & (self.checked", "self.halved & (self.checked",
           APGD),
    Mutant("APGD: condition 2 dropped", _APGD_STEPS, "RHO * interval) | stuck", "RHO * interval)", APGD),
    Mutant("APGD: checked loss not renewed", _APGD_STEPS, "self.checked = at.best_loss.clone()",
           "self.checked = self.checked", APGD),
    Mutant("APGD: step is not halved", _APGD_STEPS, "self.halved, self.step / 2, self.step",
           "self.halved, self.step / 1.5, self.step", APGD),
    Mutant("APGD: no return to the best point", _APGD_STEPS, "at.x_adv = where_samples(chosen, at.best, at.x_adv)",
           "at.x_adv = where_samples(chosen, at.x_adv, at.x_adv)", APGD),
    Mutant("APGD: return without the best gradient", _APGD_STEPS, "where_samples(chosen, at.best_gradient",
           "where_samples(chosen, at.gradient", APGD),
    Mutant("APGD: momentum reversed", _APGD_STEPS, ".sub_(at.previous, alpha=1 - keep)",
           ".add_(at.previous, alpha=1 - keep)", APGD),
    Mutant("APGD: first step of eps", _APGD_STEPS, "INITIAL_STEP = 2.0", "INITIAL_STEP = 1.0", APGD),
    Mutant("APGD: checkpoints with a fixed gap", _APGD_STEPS, "gap = max(gap - shorter, least)",
           "gap = max(gap, least)", APGD),
    Mutant("APGD l1: support test inverted", _APGD_STEPS, "support < L1_SUPPORT_KEPT", "support > L1_SUPPORT_KEPT",
           APGD),
    Mutant("APGD l1: support not renewed", _APGD_STEPS, "        self.support = support",
           "        self.support = self.support", APGD),
    Mutant("APGD l1: fraction does not fall", _APGD_STEPS, "self.fraction = support / x[0].numel() / L1_FRACTION_FALL",
           "self.fraction = support / x[0].numel()", APGD),
    Mutant("APGD l1: a warm run begins as a cold one", _APGD_STEPS, "support_size(x_adv, x) if warm",
           "ones * size if warm", APGD),
    Mutant("APGD l1: the smallest values move", _APGD_STEPS, "(size >= threshold)", "(size <= threshold)", APGD),
    Mutant("APGD: a radius of the schedule from the clean image", f"{ATTACKS}/apgd.py",
           "start = found.x_adv[samples.index]", "start = samples.x.clone()", APGD),
    # FAB: 1907.02044
    Mutant("FAB: weights of the projections swapped", f"{ATTACKS}/fab.py", "near_length / (near_length",
           "far_length / (near_length", FAB),
    Mutant("FAB: no overshoot of the clean image's projection", f"{ATTACKS}/fab.py", "clean + OVERSHOOT * far",
           "clean + far", FAB),
    Mutant("FAB: the clean image's gap is the iterate's", f"{ATTACKS}/fab.py", "gap_clean = gap + (normal",
           "gap_clean = gap + 0 * (normal", FAB),
    Mutant("FAB: no step back from a success", f"{ATTACKS}/fab.py", "BACKWARD = 0.9", "BACKWARD = 1.0", FAB),
    Mutant("FAB: a restart at eps", f"{ATTACKS}/fab.py", "START_DISTANCE = 0.5", "START_DISTANCE = 1.0", FAB),
    Mutant("FAB: the farthest boundary", _BOUNDARY, "closer = away < nearest", "closer = away > nearest", FAB),
    Mutant("FAB: distance in the norm, not its dual", _HYPERPLANE, "return length(gradient, DUAL[norm])",
           "return length(gradient, norm)", FAB),
    Mutant("hyperplane: room of the wrong side", _HYPERPLANE, "torch.where(direction > 0, 1 - x, x)",
           "torch.where(direction < 0, 1 - x, x)", FAB),
    Mutant("hyperplane: l1 takes no account of what was taken", _HYPERPLANE, "(gap[index, None] - before)",
           "(gap[index, None] - 0 * before)", FAB),
    # Square: 1912.00049
    Mutant("Square: spare mass dropped", _SQUARE, "available = spare + _mass", "available = 0 * spare + _mass", SQUARE),
    Mutant("Square: spare mass not split among the channels", _SQUARE, ".clamp_min(0) / delta.shape[1]",
           ".clamp_min(0)", SQUARE),
    Mutant("Square: the old pattern forgotten", _SQUARE, "+ old / (_norm(old, order) + TINY)",
           "+ 0 * old / (_norm(old, order) + TINY)", SQUARE),
    Mutant("Square: the other window not emptied", _SQUARE, "    delta[empty] = 0",
           "    delta[empty] *= 1", SQUARE),
    Mutant("Square: high and low swapped", _SQUARE, "torch.where(sign > 0, state.high[at], state.low[at])",
           "torch.where(sign < 0, state.high[at], state.low[at])", SQUARE),
    Mutant("Square: a window that is no better is kept", _SQUARE, "loss < state.loss[queried]",
           "loss <= state.loss[queried] + 0.1", SQUARE),
    Mutant("Square: every window from the start", _SQUARE, "    state.best[kept] = x_adv[kept]",
           "    state.best[kept] = state.best[kept]", SQUARE),
    Mutant("Square: schedule one query late", _SHAPES, "sum(at > bound for bound", "sum(at >= bound + 2 for bound",
           SQUARE_LAWS),
    Mutant("Square: l2 patterns fall off faster", _SHAPES, "L1_DECAY, L2_DECAY = 4, 2", "L1_DECAY, L2_DECAY = 4, 3",
           SQUARE_LAWS),
    # HopSkipJump: 1904.02144
    Mutant("HopSkipJump: radius not divided by d", _HSJ, "else away / target.dimensions", "else away", HSJ),
    Mutant("HopSkipJump: baseline of equation 16 dropped", _HSJ, "signed - mean * plain", "signed", HSJ),
    Mutant("HopSkipJump: step does not fall", _HSJ, "away / math.sqrt(iteration))", "away)", HSJ),
    Mutant("HopSkipJump: estimates do not grow", _HSJ, "initial_gradient_queries * math.sqrt(iteration)",
           "initial_gradient_queries * math.sqrt(1)", HSJ),
    Mutant("HopSkipJump: bisection keeps the failing end", _HSJ, "_between(run.samples.x, point, high, norm)",
           "_between(run.samples.x, point, low, norm)", HSJ),
    Mutant("HopSkipJump: tolerance of l2 in linf", _HSJ, '1.5 if norm == "l2" else 2.0', '1.5 if norm == "l2" else 1.5',
           HSJ),
    Mutant("HopSkipJump: outcomes as 0 and 1", _HSJ, ".to(noise.dtype) * 2 - 1", ".to(noise.dtype)", HSJ),
    # PGD, the balls, the losses, what counts
    Mutant("PGD l1: sign of stopped values flipped", f"{ATTACKS}/pgd.py", "(x_adv <= 0) & (direction < 0)",
           "(x_adv <= 0) & (direction > 0)",
           f"{GRADIENT}::test_a_step_in_l1_leaves_out_the_values_that_the_box_stops"),
    Mutant("PGD: momentum without the velocity", f"{ATTACKS}/pgd.py", "momentum * velocity + gradient",
           "momentum + gradient", f"{GRADIENT}::test_momentum_adds_the_gradients_before"),
    Mutant("PGD: the step does not depend on eps", f"{ATTACKS}/pgd.py", "or TRAVEL / steps) * budget.eps",
           "or TRAVEL / steps)", f"{GRADIENT}::test_every_step_of_pgd_is_the_papers"),
    Mutant("l1 projection: too much taken off", _PROJECTIONS, "excess / shrinking", "2 * excess / shrinking",
           PROJECTIONS),
    Mutant("l1 projection: no room", _PROJECTIONS, "clamp_min_(0).minimum(room[over])", "clamp_min_(0)", PROJECTIONS,
           harmless="the clamp to [0, 1] that follows gives the same point"),
    Mutant("steepest l2: not normalised", _PROJECTIONS, "flat / flat.norm(dim=1", "flat / flat.abs().norm(3, dim=1",
           PROJECTIONS),
    Mutant("random start: uniform radius, not uniform in the ball", _PROJECTIONS, "** (1 / dimensions)", "** 1.0",
           PROJECTIONS),
    Mutant("margin: of all classes", "red/evasion/math/losses.py", "logits.scatter(1, y[:, None], -torch.inf)",
           "logits.scatter(1, y[:, None], -1.0)", LOSSES),
    Mutant("DLR: second largest logit", "red/evasion/math/losses.py", "(top[:, 0] - top[:, 2] + _floor",
           "(top[:, 0] - top[:, 1] + _floor", LOSSES),
    Mutant("best: the farthest success", _ACTIVE, "closer = adversarial & (distance < before)",
           "closer = adversarial & ((distance > before) | torch.isinf(before))", FAB),
    Mutant("best: an attempt over a success", _ACTIVE, "~adversarial & torch.isinf(before)", "~adversarial",
           FAB),
    # harness
    Mutant("harness: the network's draws not seeded per attack", f"{SUITE}/shard.py",
           "    _seed_network(task, plan.text)", "    plan.text", STREAMS),
    Mutant("harness: the same draws in every seed", f"{SUITE}/shard.py", "derive_seed(task.suite.seed, purpose",
           "derive_seed(0, purpose", STREAMS),
    Mutant("harness: a result outside eps counts", f"{SUITE}/verify.py", "within = distance <= allowed",
           "within = distance <= 2 * allowed", VERIFY),
    Mutant("harness: rounding in linf", f"{SUITE}/verify.py", "0.0 if budget.norm", "0.1 if budget.norm", VERIFY),
    Mutant("harness: the last attack decides", f"{SUITE}/merge.py", "correct & ~wrong.any(dim=0)",
           "correct & ~wrong[-1]", HARNESS),
    # probes
    Mutant("probe longer-attack: one loss", f"{PROBES}/longer.py", "LOSSES = (margin, cross_entropy, dlr)",
           "LOSSES = (margin,)", THRESHOLDS),
    Mutant("probe longer-attack: fewer steps", f"{PROBES}/longer.py", "STEPS = 100", "STEPS = 90", THRESHOLDS),
    Mutant("probe jumps-nearby: 3 to 8", _SURFACE, "MOST_JUMP = 3.0", "MOST_JUMP = 8.0", THRESHOLDS),
    Mutant("probe gradient-matches-change: up to 3 times", _SURFACE, "TRUE = (0.5, 2.0)", "TRUE = (0.5, 3.0)",
           THRESHOLDS),
    Mutant("probe gradient-matches-change: share", _SURFACE, "LEAST_TRUE = 0.5", "LEAST_TRUE = 0.4", THRESHOLDS),
    Mutant("probe unbounded: nothing at eps 1", f"{PROBES}/unbounded.py", "<= largest and left[WHOLE] == 0",
           "<= largest", THRESHOLDS),
    Mutant("probe unbounded: nothing at eps 0.5", f"{PROBES}/unbounded.py", "left[HALF] <= largest and left",
           "left", THRESHOLDS),
    Mutant("probe binarisation: 95 % to 50 %", f"{PROBES}/binarisation.py", "LEAST_SUCCESS = 0.95",
           "LEAST_SUCCESS = 0.5", THRESHOLDS),
    Mutant("probe binarisation: fewer images", f"{PROBES}/binarisation.py", "FEWEST = 8", "FEWEST = 7", THRESHOLDS),
    Mutant("probe gradients-along-attack: 5 % to 6 %", _ALONG, "MOST_BLIND = 0.05", "MOST_BLIND = 0.06", THRESHOLDS),
    Mutant("probe converged: 5 % to 10 %", _ALONG, "SETTLED = 0.05", "SETTLED = 0.10", THRESHOLDS),
    Mutant("probe converged: half to 60 %", _ALONG, "MOST_UNSETTLED = 0.5", "MOST_UNSETTLED = 0.6", THRESHOLDS),
    Mutant("probe one-step-overfitting: 15 to 20 points", _ONE, "MOST_GAP = 0.15", "MOST_GAP = 0.20", THRESHOLDS),
    Mutant("probe one-step-overfitting: noise forgotten", _ONE, "and whole - after_noise <= MOST_NOISE_GAP * n", "",
           THRESHOLDS),
    Mutant("probe random-without-eot: fewer calls", f"{PROBES}/forward.py", "range(CALLS - 1)", "range(CALLS - 2)",
           THRESHOLDS),
    Mutant("probe pgd-falls-short: 15 to 17 points", f"{PROBES}/plain_pgd.py", "MOST_MISSED = 0.15",
           "MOST_MISSED = 0.17", f"{DIAGNOSIS}::test_pgd_falls_short_where_it_misses_much_and_much_is_left"),
    Mutant("beyond chance: one image less", "core/statistics.py", "extra >= LEAST_EXTRA and", "extra >= 1 and",
           STATISTICS),
    Mutant("Wilson: 90 %", "core/statistics.py", "Z_95 = 1.959963984540054", "Z_95 = 1.6448536269514722", STATISTICS),
    # runs, files
    Mutant("stage key: threads", _EXECUTE, '"threads": torch.get_num_threads()', '"threads": 0', ENGINE),
    Mutant("stage key: device", _EXECUTE, '"device": execution.device_name', '"device": 0', ENGINE),
    Mutant("stage key: versions", _EXECUTE, '"versions": versions()', '"versions": 0', ENGINE),
    Mutant("stage key: precision", _EXECUTE, "[execution.precision, *sorted", "[*sorted", ENGINE),
    Mutant("stage key: units of the processor", _EXECUTE, "*sorted(cpu_flags() & BF16_UNITS)]", "]", ENGINE),
    Mutant("stage key: code", _EXECUTE, '"code": results_digest()', '"code": 0', ENGINE),
    Mutant("deadline: without the stage's cost", _EXECUTE, "time.monotonic() + stage.cost_seconds >",
           "time.monotonic() >", ENGINE),
    Mutant("pickle: dotted names allowed", "files/pickle_machine.py", 'or "." in name:', "or False:",
           f"{PICKLES}::test_a_dot_in_a_name_is_refused_though_the_whole_is_a_known_global"),
)  # fmt: skip
