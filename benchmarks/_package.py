"""All that the benchmarks take from the package: a name that moves there is mended here, and nowhere else."""

from __future__ import annotations

import secure_ai
from secure_ai.blue.backdoors import calibration
from secure_ai.blue.backdoors.data_filters import FILTERS, Evidence, filter_scores
from secure_ai.blue.backdoors.detectors import Found, detect, of_classes, of_pairs
from secure_ai.blue.backdoors.fleet import MOST_SHIFTED, recipe, shifted
from secure_ai.blue.backdoors.inversion import FORMS, Inverted, Searches, every_class, every_pair, smallest
from secure_ai.blue.backdoors.judgement import P_SUSPICIOUS, ScanVerdict
from secure_ai.blue.backdoors.margin import STARTS, driven, starts
from secure_ai.blue.guards.expert import expert_guard
from secure_ai.blue.guards.guard import Guard
from secure_ai.blue.guards.strip import strip_guard
from secure_ai.blue.guards.transforms import RANDOM, TRANSFORMS, Transformed
from secure_ai.blue.training.certified_training import interval_initialise
from secure_ai.blue.training.hardening import timed_steps
from secure_ai.blue.training.loop import TrainingPlan, train
from secure_ai.blue.training.methods import Adversary, Batch, BatchLoss, Method, half_replaced, natural
from secure_ai.blue.training.schedules import Schedule, constant, triangular
from secure_ai.cli.process import release_memory
from secure_ai.core.budget import Norm, PerturbationBudget
from secure_ai.core.compute import (
    TRAINING_REPLICAS,
    Device,
    Precision,
    choose_device,
    configure,
    device_name,
    exact_kernels,
)
from secure_ai.core.errors import SecureAIError
from secure_ai.core.events import EventLog, ignore_event
from secure_ai.core.machine import BF16_UNITS, cpu_flags, describe_machine
from secure_ai.core.results import Rate, rate
from secure_ai.core.seeds import derive_seed, generator
from secure_ai.core.statistics import mcnemar_exact, wilson
from secure_ai.core.trust import CheckOutcome, Trust, Verdict
from secure_ai.core.versions import versions
from secure_ai.data.dataset import Dataset
from secure_ai.data.mnist import cache_folder, fetch, load_mnist
from secure_ai.data.source import load_data
from secure_ai.data.splits import first_n, hold_out_last, random_order, sample_n
from secure_ai.data.triggers import Trigger, make_trigger, parse_trigger, stamp
from secure_ai.files.open import read_file
from secure_ai.files.seal import user_seal
from secure_ai.files.write import make_folder, write_json
from secure_ai.models.load.store import load_model, make_target, save_model
from secure_ai.models.load.trained import trained_network, trained_target
from secure_ai.models.networks.built_in import (
    NETWORKS,
    Report1Cnn,
    Report2Cnn,
    build_network,
    keras_initialise,
    torch_initialise,
)
from secure_ai.models.preflight.preflight import examine
from secure_ai.models.target.evaluate import evaluate
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.wrappers import Wrapped
from secure_ai.models.tensors import images_to_float, labels_to_tensor, state_digest, to_channels_last
from secure_ai.red.evasion.attacks.art_adapter import silent
from secure_ai.red.evasion.attacks.pgd import fgsm, pgd
from secure_ai.red.evasion.contract import SHARD_SIZE, Passes
from secure_ai.red.evasion.suite.autoattack import AUTOATTACK, Protocol
from secure_ai.red.evasion.suite.catalogue import ATTACKS
from secure_ai.red.evasion.suite.engine import WORKER_BATCH
from secure_ai.red.evasion.suite.fast import FAST
from secure_ai.red.evasion.suite.harness import run_suite, score_examples
from secure_ai.red.evasion.suite.parse import parse_attacks
from secure_ai.red.evasion.suite.result import ExamplesScore, SuiteResult
from secure_ai.red.evasion.suite.verify import allowed_distance, measured_distance
from secure_ai.red.evasion.trust.judge import judge_examples
from secure_ai.red.evasion.trust.judged import judge_network
from secure_ai.red.evasion.trust.probes.diagnose import diagnose
from secure_ai.red.poisoning.plant import backdoor_success_rate, plant
from secure_ai.report.model import report_bytes
from secure_ai.report.render.png import frontier_png
from secure_ai.report.render.text import column_title, text_rows, trust_words
from secure_ai.report.render.verdict import verdict_line
from secure_ai.runs.backdoors.fleet import KNOWN, Fleet, Member, known_fleet, measuring_settings, significant
from secure_ai.runs.backdoors.repair import (
    choose,
    repairs,
    state_of,
    success_after_relearning,
    suspect,
    with_relearning,
)
from secure_ai.runs.backdoors.scan import judge_found, scan_target
from secure_ai.runs.engine.execute import Execution, Finished, execute, results_digest
from secure_ai.runs.engine.stage import watch_nothing
from secure_ai.runs.engine.store import Store
from secure_ai.runs.model_spec import ModelSpec
from secure_ai.runs.recipe.plan import plan
from secure_ai.runs.recipe.recipe import load_recipe
from secure_ai.runs.stages.adversaries import fgsm_random_start, pgd_on_the_fly
from secure_ai.runs.stages.certificates import CertifyMethod
from secure_ai.runs.stages.examples import attack_every_image
from secure_ai.runs.stages.hardening import Hardening, checks, held_out, planned
from secure_ai.runs.stages.hardening_methods import BEYOND, METHODS, RAMP
from secure_ai.runs.verbs.run import run
