"""The architecture, held by measurement: who imports whom, sizes, and what no source file may contain.

Each rule is a function from source files to complaints. Each is run twice: over this repository, where it must find
nothing, and over a small bad example, where it must complain.
"""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RANKS = {
    "core": 0, "files": 1, "data": 2, "models": 3, "red": 4, "blue": 4, "audit": 4, "threats": 4,
    "report": 5, "serve": 6, "runs": 7, "cli": 8,
}  # fmt: skip
TORCH_FREE = ("core", "files", "data", "audit", "threats", "report", "cli")
USES_TORCH = {"secure_ai.core.seeds", "secure_ai.core.compute", "secure_ai.core.parallel"}
HEAVY = {"torch", "keras", "tensorflow", "matplotlib"}
HEAVY_FOR_HELP = HEAVY | {"scipy", "h5py", "PIL", "jinja2", "numpy", "pydantic"}
MAX_FILE_LINES, MAX_MEDIAN_FILE_LINES, MAX_P90_FUNCTION_LINES = 500, 150, 40
# Places that break a rule on purpose: checker -> file -> reason. Each must still be needed.
ALLOWED = {
    "unpickling": {
        "audit/cache_demo_child.py": "shows what unpickling does, on a file the tool has just written itself"
    },
    "broad_excepts": {
        "cli/main.py": "a bug has an exit code of its own, and its traceback is shown",
        "models/preflight/calls.py": "a user's network may raise anything",
        "models/target/copies.py": "a user's network may raise anything when it is copied",
        "models/load/store.py": "a user's eval() or state_dict() may raise anything",
        "models/target/target.py": "a user's network may raise anything",
        "models/load/factory.py": "a user's module or factory may raise anything",
        "red/evasion/attacks/art_adapter.py": "a foreign attack may raise anything",
    },
    "unsafe_loads": {"models/load/factory.py": "running the user's file is what --arch asks for"},
    "global_randomness": {
        "models/target/watch.py": "puts the global states back that a user's network may have moved",
        "red/evasion/attacks/art_adapter.py": "ART draws from global generators: seeded for it, then put back",
    },
    "prints_outside_cli": {"files/sandbox/child.py": "the child's error goes to its parent over standard error"},
}


@dataclass(frozen=True)
class Source:
    """A file of the package; `path` is relative to it, e.g. `red/evasion/attacks/pgd.py`."""

    path: str
    text: str

    @property
    def layer(self) -> str:
        return self.path.split("/")[0] if "/" in self.path else ""

    @property
    def tree(self) -> ast.Module:
        return _parse(self.text)


Checker = Callable[[Sequence[Source]], list[str]]


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def package() -> tuple[Source, ...]:
    folder = ROOT / "src" / "secure_ai"
    return tuple(
        Source(path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.py"))
    )


def walk(sources: Sequence[Source], *kinds: type[ast.AST]) -> Iterator[tuple[Source, ast.AST]]:
    return ((source, node) for source in sources for node in ast.walk(source.tree) if isinstance(node, kinds))


def place(source: Source, node: ast.AST) -> str:
    return f"{source.path}:{getattr(node, 'lineno', 0)}"


def dotted(node: ast.AST) -> str:
    """`a.b.c` for names and attributes, else an empty text."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


# --- who imports whom -------------------------------------------------------------------------------------------------


def own_imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, layer) of every import of this package, and of every text that names one of its modules."""
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "secure_ai" else [module]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # a module named `..._child` is started as another process, which is no import
            names = [node.value] if re.fullmatch(r"secure_ai(\.\w+)+(?<!_child)", node.value) else []
        for name in names:
            parts = name.split(".")
            if parts[0] == "secure_ai" and len(parts) > 1 and parts[1] in RANKS:
                yield getattr(node, "lineno", 0), parts[1]


def upward_imports(sources: Sequence[Source]) -> list[str]:
    return [
        f"{source.path}:{line} ({source.layer}) imports {layer}"
        for source in sources
        if source.layer
        for line, layer in own_imports(source)
        if layer != source.layer and RANKS[layer] >= RANKS.get(source.layer, -1)
    ]


def unknown_folders(sources: Sequence[Source]) -> list[str]:
    return sorted({f"{s.layer}/ has no place among the layers" for s in sources if s.layer and s.layer not in RANKS})


def relative_imports(sources: Sequence[Source]) -> list[str]:
    return [place(s, n) for s, n in walk(sources, ast.ImportFrom) if isinstance(n, ast.ImportFrom) and n.level]


def two_way_pairs(sources: Sequence[Source]) -> list[str]:
    edges = {(s.layer, layer) for s in sources if s.layer for _, layer in own_imports(s) if layer != s.layer}
    return sorted(f"{a} and {b} import each other" for a, b in edges if a < b and (b, a) in edges)


# --- sizes and types --------------------------------------------------------------------------------------------------


def line_count(text: str) -> int:
    return len(text.splitlines())


def long_files(sources: Sequence[Source]) -> list[str]:
    return [f"{s.path}: {line_count(s.text)} lines" for s in sources if line_count(s.text) > MAX_FILE_LINES]


def large_median(sources: Sequence[Source]) -> list[str]:
    median = statistics.median(line_count(s.text) for s in sources if not s.path.endswith("__init__.py"))
    return [] if median < MAX_MEDIAN_FILE_LINES else [f"median file: {median} lines"]


def functions(sources: Sequence[Source]) -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for source, node in walk(sources, ast.FunctionDef, ast.AsyncFunctionDef):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield source, node


def long_functions(sources: Sequence[Source]) -> list[str]:
    lengths = sorted(((node.end_lineno or 0) - node.lineno + 1, place(s, node)) for s, node in functions(sources))
    if not lengths:
        return []
    p90 = lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))][0]
    return [] if p90 <= MAX_P90_FUNCTION_LINES else [f"90 % of functions have up to {p90} lines; longest {lengths[-1]}"]


def unannotated_arguments(sources: Sequence[Source]) -> list[str]:
    complaints = []
    for source, node in functions(sources):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += [a for a in (node.args.vararg, node.args.kwarg) if a]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        complaints += [f"{place(source, node)} {node.name}({', '.join(bare)})"] if bare else []
        complaints += [f"{place(source, node)} {node.name} -> ?"] if node.returns is None else []
    return complaints


def stages_that_import_verbs(sources: Sequence[Source]) -> list[str]:
    """A verb is a command: it plans and reports. What a stage measures with stands below both."""
    return [
        f"{source.path}:{node.lineno} imports {name}"
        for source in sources
        if source.path.startswith("runs/stages/")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imported_names(node)
        if name.startswith("secure_ai.runs.verbs")
    ]


def imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Every module that an import may load: of `from a import b` that is `a.b`, too."""
    names = [alias.name for alias in node.names]
    return names if isinstance(node, ast.Import) else [f"{node.module}.{name}" for name in names]


def names_of_cases(sources: Sequence[Source]) -> list[str]:
    """What is special to a report stands in its case: no other file names its networks, stages or figures."""
    return [
        f"{source.path}:{number} names {found[0]!r}"
        for source in sources
        if not source.path.startswith("runs/cases/report_")
        for number, line in enumerate(source.text.splitlines(), start=1)
        if (found := re.search(r"report-[12]/[\w-]*", line))
    ]


def repeated_names(sources: Sequence[Source]) -> list[str]:
    """Files of one name inside a top-level folder; the cases are parallel, file by file."""
    seen: dict[tuple[str, str], str] = {}
    complaints = []
    for source in sources:
        name = source.path.rpartition("/")[2]
        if not source.layer or name == "__init__.py":
            continue
        other = seen.setdefault((source.layer, name), source.path)
        parallel = source.path.startswith("runs/cases/") and other.startswith("runs/cases/")
        if other != source.path and not parallel:
            complaints.append(f"{other} and {source.path}")
    return complaints


# --- what no source file may contain ----------------------------------------------------------------------------------


def asserts(sources: Sequence[Source]) -> list[str]:
    return [place(s, n) for s, n in walk(sources, ast.Assert)]


def calls(sources: Sequence[Source]) -> Iterator[tuple[Source, ast.Call, str]]:
    for source, node in walk(sources, ast.Call):
        if isinstance(node, ast.Call):
            yield source, node, dotted(node.func)


def prints_outside_cli(sources: Sequence[Source]) -> list[str]:
    banned = {"print", "sys.stdout.write", "sys.stderr.write", "input"}
    return [place(s, n) for s, n, name in calls(sources) if name in banned and s.layer != "cli"]


def broad_excepts(sources: Sequence[Source]) -> list[str]:
    complaints = []
    for source, node in walk(sources, ast.ExceptHandler):
        if isinstance(node, ast.ExceptHandler):
            types = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else []
            if not types or {dotted(t) for t in types} & {"Exception", "BaseException"}:
                complaints.append(place(source, node))
    return complaints


def keyword_is_true(node: ast.Call, name: str) -> bool:
    return any(k.arg == name and isinstance(k.value, ast.Constant) and k.value.value is True for k in node.keywords)


def unsafe_loads(sources: Sequence[Source]) -> list[str]:
    """torch.load without weights_only=True, numpy's allow_pickle=True, eval and exec."""
    return [
        place(s, n)
        for s, n, name in calls(sources)
        if (name in ("torch.load", "load") and not keyword_is_true(n, "weights_only"))
        or keyword_is_true(n, "allow_pickle")
        or name in ("eval", "exec")
    ]


def unpickling(sources: Sequence[Source]) -> list[str]:
    """Loads of a pickle module, a bare Unpickler, names imported from one. A restricted subclass is fine."""
    modules = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    complaints = [
        place(s, n)
        for s, n, name in calls(sources)
        if name.split(".")[0] in modules and name.split(".")[-1] in ("load", "loads", "open", "Unpickler")
    ]
    for source, node in walk(sources, ast.ImportFrom):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            complaints += [place(source, node)]
    return complaints


def global_randomness(sources: Sequence[Source]) -> list[str]:
    """Draws and seeds that would touch a global generator."""
    allowed = {"default_rng", "Generator", "SeedSequence", "PCG64"}
    complaints = []
    for source, node, name in calls(sources):
        parts = name.split(".")
        if name in ("torch.manual_seed", "torch.seed") or parts[0] == "random":
            complaints.append(place(source, node))
        if parts[:2] in (["np", "random"], ["numpy", "random"]) and parts[-1] not in allowed:
            complaints.append(place(source, node))
    return complaints


def texts(source: Source) -> Iterator[tuple[ast.Constant, str]]:
    """Every literal text that is not a docstring."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(source.tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node, node.value


def blue_reads_test_images(sources: Sequence[Source]) -> list[str]:
    """Training, defences and their tuning get data as arguments; they never open the test images."""
    complaints = []
    for source in sources:
        if source.layer != "blue" and not re.search(r"(^|[/_])tun(e|ing)", source.path):
            continue
        complaints += [
            f"{source.path}:{n.lineno} names {v!r}" for n, v in texts(source) if re.search("t10k|mnist:test", v)
        ]
        for _, node, name in calls([source]):
            if name.split(".")[-1] in ("load_data", "load_mnist", "fetch") and not reads_train_only(node, source.layer):
                complaints.append(f"{place(source, node)} may read test images")
    return complaints


def reads_train_only(node: ast.Call, layer: str) -> bool:
    """A tuning script may load the training split by a literal name; code under blue/ loads nothing at all."""
    first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
    split = [k.value.value for k in node.keywords if k.arg == "split" and isinstance(k.value, ast.Constant)]
    return layer != "blue" and (str(first).startswith(("mnist:train", "train")) or split == ["train"])


RULES: dict[str, tuple[Checker, dict[str, str]]] = {
    "imports run one way": (upward_imports, {"core/a.py": "from secure_ai.files.open import read_file"}),
    "siblings never import each other": (upward_imports, {"red/a.py": "def f() -> None:\n    import secure_ai.blue.b"}),
    "imports by name count": (upward_imports, {"report/a.py": "MODULE = 'secure_ai.runs.verbs.attack'"}),
    "imports of a layer count": (upward_imports, {"data/a.py": "from secure_ai import models"}),
    "every folder has its place": (unknown_folders, {"utils/a.py": ""}),
    "imports are absolute": (relative_imports, {"core/a.py": "from . import b"}),
    "no two-way pairs": (
        two_way_pairs,
        {"core/a.py": "import secure_ai.files.b", "files/b.py": "from secure_ai.core.a import c"},
    ),
    "stages import no verb": (
        stages_that_import_verbs,
        {"runs/stages/a.py": "def f() -> None:\n    from secure_ai.runs.verbs.attack import examine"},
    ),
    "stages import no verb's module": (
        stages_that_import_verbs,
        {"runs/stages/a.py": "from secure_ai.runs import verbs"},
    ),
    "cases alone name their networks": (names_of_cases, {"runs/a.py": "BASELINE = 'report-1/baseline'"}),
    "f-strings count": (names_of_cases, {"report/a.py": "def f(x: str) -> str:\n    return f'report-2/{x}'"}),
    "docstrings count": (names_of_cases, {"core/a.py": '"""E.g. `report-1/baseline`."""'}),
    "one case does not name another's": (names_of_cases, {"runs/cases/x/a.py": "AGAINST = 'report-1/baseline'"}),
    "no file name twice in a folder": (repeated_names, {"red/a/pgd.py": "", "red/b/pgd.py": ""}),
    "a case's file name is its own": (repeated_names, {"runs/cases/x/plan.py": "", "runs/recipe/plan.py": ""}),
    "no file over 500 lines": (long_files, {"core/a.py": "x = 1\n" * 501}),
    "median file under 150 lines": (large_median, {"core/a.py": "x = 1\n" * 150}),
    "functions are short": (long_functions, {"core/a.py": "def f() -> None:\n" + "    x = 1\n" * 40}),
    "arguments are annotated": (unannotated_arguments, {"core/a.py": "def f(x: int, *, y) -> None: ..."}),
    "results are annotated": (unannotated_arguments, {"core/a.py": "def f(x: int): ..."}),
    "no assert": (asserts, {"core/a.py": "assert True"}),
    "only the command line prints": (prints_outside_cli, {"report/a.py": "print('x')"}),
    "no bare except": (broad_excepts, {"core/a.py": "try:\n    pass\nexcept:\n    pass"}),
    "no except Exception": (broad_excepts, {"core/a.py": "try:\n    pass\nexcept (OSError, Exception):\n    pass"}),
    "no torch.load of everything": (unsafe_loads, {"models/a.py": "torch.load(f, weights_only=False)"}),
    "no numpy pickles": (unsafe_loads, {"models/a.py": "np.load(f, allow_pickle=True)"}),
    "no exec": (unsafe_loads, {"models/a.py": "exec(text)"}),
    "no unpickling": (unpickling, {"data/a.py": "pickle.loads(b)"}),
    "no plain unpickler": (unpickling, {"data/a.py": "pickle.Unpickler(f).load()"}),
    "no hidden unpickling": (unpickling, {"data/a.py": "from pickle import loads"}),
    "no global random state": (global_randomness, {"red/a.py": "np.random.rand(3)"}),
    "no global seeds": (global_randomness, {"red/a.py": "torch.manual_seed(0)"}),
    "blue names no test images": (blue_reads_test_images, {"blue/a.py": "x = 't10k-images-idx3-ubyte'"}),
    "blue loads nothing": (blue_reads_test_images, {"blue/a.py": "load_data('mnist:train')"}),
    "tuning loads the training split": (blue_reads_test_images, {"benchmarks/tune_a.py": "load_data(name)"}),
}

GOOD = {
    "core/a.py": "import math\n\n\ndef f(self, x: int) -> float:\n    return math.sqrt(x)\n",
    "data/b.py": "import pickle\n\n\nclass Only(pickle.Unpickler):\n    '''mnist:test, t10k, print.'''\n",
    "red/c.py": "from secure_ai.core.a import f\nfrom secure_ai.red.d import g\nx = torch.Generator().manual_seed(1)\n",
    "red/d.py": "import numpy as np\n\nx = np.random.default_rng(3)\n",
    "blue/e.py": "try:\n    torch.load(x, weights_only=True)\nexcept OSError:\n    pass\n",
    "cli/f.py": "import secure_ai.runs.verbs.run\n\nprint('x')\n",
    "benchmarks/tune_g.py": "load_data('mnist:train~6000', split='train')\n",
}


CHECKERS = {checker.__name__: checker for checker, _ in RULES.values()}


@pytest.mark.parametrize("name", CHECKERS)
def test_package_keeps_the_rule(name: str) -> None:
    sources = package()
    assert len(sources) > 10, "the package was not found"
    checker, allowed = CHECKERS[name], ALLOWED.get(name, {})
    tuning = [Source(f"benchmarks/{p.name}", p.read_text(encoding="utf-8")) for p in (ROOT / "benchmarks").glob("*.py")]
    complaints = checker([*sources, *tuning] if checker is blue_reads_test_images else sources)
    assert [text for text in complaints if text.split(":")[0] not in allowed] == []


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in ALLOWED.items() for path in paths])
def test_allowed_exception_is_still_needed(name: str, path: str) -> None:
    complaints = CHECKERS[name]([source for source in package() if source.path == path])
    assert complaints, f"{path} no longer breaks the rule: take it off the list"


@pytest.mark.parametrize("rule", RULES)
def test_rule_complains_about_a_breach(rule: str) -> None:
    checker, bad = RULES[rule]
    assert checker([Source(path, text) for path, text in bad.items()]) != []


@pytest.mark.parametrize("rule", RULES)
def test_rule_accepts_good_code(rule: str) -> None:
    good = [Source(p, t) for p, t in GOOD.items() if RULES[rule][0] is blue_reads_test_images or "benchmarks" not in p]
    assert RULES[rule][0](good) == []


# --- what is loaded when a layer is imported --------------------------------------------------------------------------


def modules_of(layer: str) -> list[str]:
    names = [f"secure_ai.{s.path.removesuffix('.py').replace('/', '.')}" for s in package() if s.layer == layer]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def loaded_by(modules: Sequence[str], heavy: set[str], then: str = "") -> set[str]:
    """Which of `heavy` are in `sys.modules` after a fresh interpreter has imported `modules` and done `then`."""
    code = (
        f"import importlib, sys\nfor name in {list(modules)!r}:\n    importlib.import_module(name)\n{then}\n"
        f"sys.stdout.write('\\nLOADED ' + ' '.join(sorted(set(sys.modules) & {heavy!r})))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return set(result.stdout.rsplit("LOADED", 1)[1].split())


@pytest.mark.parametrize("layer", TORCH_FREE)
def test_layer_is_free_of_torch(layer: str) -> None:
    modules = [name for name in modules_of(layer) if name not in USES_TORCH]
    assert modules, f"{layer}/ was not found"
    assert loaded_by(modules, HEAVY) == set()


CASE_MODULES = [
    *(
        f"secure_ai.runs.cases.{report}.{name}"
        for report in ("report_1", "report_2")
        for name in ("case", "figures", "files", "settings", "threats")
    ),
    "secure_ai.runs.cases.case",
    "secure_ai.runs.cases.table",
    "secure_ai.runs.cases.user.given",
]


def test_what_a_recipe_and_a_register_need_of_the_cases_is_free_of_torch() -> None:
    planned = "secure_ai.runs.recipe.plan"
    recipe = [name for name in modules_of("runs") if name.startswith("secure_ai.runs.recipe.") and name != planned]
    assert len(recipe) > 5
    assert loaded_by([*CASE_MODULES, *recipe], HEAVY) == set()
    assert "torch" in loaded_by([planned], HEAVY)


def test_torch_would_be_seen() -> None:
    assert "torch" in loaded_by(["secure_ai.core.compute"], HEAVY)


def test_help_loads_nothing_heavy() -> None:
    show_help = "sys.modules['secure_ai.cli.main'].run_command(['--help'])"
    assert loaded_by(["secure_ai.cli.main"], HEAVY_FOR_HELP, show_help) == set()


def test_building_a_network_does_not_load_sympy() -> None:
    module = "secure_ai.models.networks.built_in"
    build = f"m = sys.modules[{module!r}]; m.build_network('report1-cnn', generator=m.torch.Generator())"
    assert loaded_by(["secure_ai.models.networks.built_in"], {"sympy"}, build) == set()
    skip = "import torch; torch.nn.utils.skip_init(torch.nn.Linear, 2, 2)"
    assert loaded_by(["secure_ai.models.networks.built_in"], {"sympy"}, skip) == {"sympy"}


def test_a_gradient_does_not_load_sympy() -> None:
    take = (
        "import torch; x = torch.ones(2, requires_grad=True); "
        "sys.modules['secure_ai.red.evasion.math.input_gradient'].input_gradient(x * x, x)"
    )
    assert loaded_by(["secure_ai.red.evasion.math.input_gradient"], {"sympy"}, take) == set()
    weighted = "import torch; x = torch.ones(2, requires_grad=True); torch.autograd.grad(x * x, x, torch.ones(2))"
    assert loaded_by(["secure_ai.red.evasion.math.input_gradient"], {"sympy"}, weighted) == {"sympy"}


# --- documents and paths ----------------------------------------------------------------------------------------------

NOT_OURS = {".git", "__pycache__", "build", "dist", "secure_ai_outputs"}
TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".lock", ".sh", ".json", ".html", ".j2", ".yml", ".yaml", ".cfg"}
FOREIGN_PATHS = re.compile(r"(?<![\w.])/wor[k]/|\.\./share[d]|/hom[e]/\w|(?<![\w.])/roo[t]/|/User[s]/\w")


def left_out(part: str) -> bool:
    """Caches, build results and outputs: what git ignores."""
    return (
        part in NOT_OURS or part.startswith(".venv") or part.endswith(("_cache", ".egg-info")) or part == ".hypothesis"
    )


def repository_texts() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.is_file() and path.suffix in TEXT_SUFFIXES and not any(map(left_out, parts)):
            yield "/".join(parts), path.read_text(encoding="utf-8", errors="replace")


def foreign_paths(name: str, text: str) -> list[str]:
    return [f"{name}: {match.group()}" for match in FOREIGN_PATHS.finditer(text)]


def test_nothing_names_a_path_outside_the_repository() -> None:
    found = [complaint for name, text in repository_texts() for complaint in foreign_paths(name, text)]
    assert found == []


@pytest.mark.parametrize(
    "text", ["open('/wor" + "k/x')", "../share" + "d/notes", "cd /hom" + "e/me", "/roo" + "t/.cache"]
)
def test_a_foreign_path_would_be_seen(text: str) -> None:
    assert foreign_paths("x", text) != []


def package_folders() -> list[str]:
    return sorted({s.path.rsplit("/", 1)[0] for s in package() if "/" in s.path})


def unnamed_folders(document: str, folders: Sequence[str]) -> list[str]:
    return [folder for folder in folders if f"`{folder}/`" not in document]


def test_architecture_names_every_folder() -> None:
    document = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    top = [p.name for p in ROOT.iterdir() if p.is_dir() and not left_out(p.name)]
    assert unnamed_folders(document, [*package_folders(), *sorted(top)]) == []


def test_a_folder_left_out_of_architecture_would_be_seen() -> None:
    assert unnamed_folders("`red/` and `red/evasion/`", ["red", "red/evasion", "blue"]) == ["blue"]
