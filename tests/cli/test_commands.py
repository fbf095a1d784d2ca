from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from secure_ai.blue.training.hardening import Checked
from secure_ai.cli.main import COMMANDS, build_app, run_command
from secure_ai.models.load.store import load_model
from secure_ai.red.evasion.suite.catalogue import names
from secure_ai.runs.stages import hardening

pytestmark = pytest.mark.usefixtures("smaller_probes")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    return code, json.loads(out)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, digit_files: dict[str, Path]) -> Path:
    path = tmp_path_factory.mktemp("model") / "mine.safetensors"
    arguments = ["train", "--arch", "report1-cnn", "--data", str(digit_files["train"]), "--epochs", "3"]
    assert run_command([*arguments, "--out", str(path), "--quiet"]) == 0
    return path


@pytest.mark.parametrize("rate", ["0", "-0.001", "nan", "1.5"])
def test_a_learning_rate_that_trains_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], tmp_path: Path, rate: str
) -> None:
    out = tmp_path / "mine.safetensors"
    code, _, err = call(
        capsys, "train", "--arch", "report1-cnn", "--data", str(digit_files["train"]), "--learning-rate", rate,
        "--out", str(out),
    )  # fmt: skip
    assert (code, out.exists()) == (2, False)
    assert "--learning-rate" in err


@pytest.mark.parametrize(
    ("method", "norm", "shown", "measured_by"),
    [
        ("pgd", "linf", "robust accuracy", "secure-ai attack"),
        ("gaussian", "l2", "accuracy under noise", "secure-ai certify --method smoothing"),
        ("ibp", "linf", "certified accuracy", "secure-ai certify --method ibp"),
    ],
)
def test_harden_names_what_chose_the_weights(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], tmp_path: Path, method: str, norm: str,
    shown: str, measured_by: str,
) -> None:  # fmt: skip
    out = tmp_path / "hard.safetensors"
    code, text, _ = call(
        capsys, "harden", "--arch", "report1-cnn", "--data", str(digit_files["train"]), "--method", method, "--norm",
        norm, "--eps", "0.1", "--epochs", "1", "--out", str(out), "--quiet",
    )  # fmt: skip
    assert code == 0
    assert shown in text
    assert ("robust" in text) is ("not judged" in text) is (method == "pgd")
    assert measured_by in text


FLAT = "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))\n"


@pytest.mark.parametrize(("words", "stopped"), [(["--patience", "1"], "after step 8 of 20: no better"), ([], "")])
def test_harden_says_at_which_step_it_stopped_and_why(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], stopped: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(hardening, "checks", lambda held, asked: lambda network: Checked(1, 0.5, 0.5))
    (tmp_path / "net.py").write_text(FLAT)
    code, text, _ = call(
        capsys, "harden", "--arch", f"{tmp_path / 'net.py'}:build", "--data", str(digit_files["train"]),
        "--norm", "linf", "--eps", "0.1", "--epochs", "5", "--quiet", *words,
        "--out", str(tmp_path / "hard.safetensors"),
    )  # fmt: skip
    assert code == 0
    assert stopped in text
    assert ("stopped" in text) is bool(stopped)


@pytest.mark.parametrize(("method", "norm"), [("pgd", "linf"), ("ibp", "linf"), ("gaussian", "l2")])
def test_the_command_that_harden_names_measures_an_own_network(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], tmp_path: Path, method: str, norm: str
) -> None:
    (tmp_path / "my net.py").write_text(FLAT)
    code, text, _ = call(
        capsys, "harden", "--arch", f"{tmp_path / 'my net.py'}:build", "--mean", "0.13", "--std", "0.3", "--method",
        method, "--norm", norm, "--eps", "8/255", "--data", str(digit_files["train"]), "--epochs", "1", "--out",
        str(tmp_path / "hard.safetensors"), "--quiet",
    )  # fmt: skip
    assert code == 0
    words = shlex.split(text[text.index("secure-ai ") :])
    words[words.index("TEST")] = str(digit_files["test"])
    quick = [] if method == "gaussian" else ["--attack", "fgsm"]
    code, result = call_json(capsys, *words[1:], "--n", "10", "--quiet", *quick)
    assert code == 0
    assert result["budget"]["eps_text"] == "8/255"
    assert words[words.index("--mean") + 1] == "0.13"


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["--norm", "LInf"], None),
        (["--norm", "L2", "--access", "Scores", "--split", "VAL", "--device", "CPU", "--fail-on", "High"], None),
        (["--norm", "l_inf"], "linf"),
        (["--norm", "linf", "--access", "score"], "scores"),
        (["--norm", "linf", "--fail-on", "hihg"], "high"),
        (["--norm", "linf", "--attack", "FSGM"], "fgsm"),
        (["--norm", "linf", "--modle", "x"], "--model"),
        (["--norm", "x"], ""),
    ],
)
def test_names_are_taken_in_any_case_and_others_get_the_nearest_of_their_list(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], words: list[str], nearest: str | None
) -> None:
    """What is taken goes on to the model file, which is not there; the word that is proposed is taken."""
    request = ["attack", "none.pt", "--data", str(digit_files["test"]), "--eps", "0.1"]
    code, _, err = call(capsys, *request, *words)
    assert (code, "E_FILE_MISSING" in err) == (2, nearest is None)
    if nearest:
        assert re.findall(r"you mean (\S+?)[?.]", err.lower()) == [nearest]
        if nearest == "--model":  # the file is named once, by the option that was meant
            request, mended = request[:1] + request[2:], [*words[:-2], nearest, "none.pt"]
        else:
            mended = [*words[:-1], nearest]
        assert "E_FILE_MISSING" in call(capsys, *request, *mended)[2]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_needs_no_torch(name: str) -> None:
    code = (
        "import sys\nfrom secure_ai.cli.main import build_app\n"
        f"build_app()({[*name.split(), '--help']!r})\n"
        "slow = {'torch', 'keras', 'matplotlib', 'scipy', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_help_names_every_attack_and_suite(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "attack", "--help")
    assert code == 0
    listed = set(re.findall(r"[a-z0-9-]+", out.split("Suites:")[1].split("Their settings")[0]))
    missing = {*names(), "art"} - listed
    assert not missing


def test_every_command_is_documented_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert all(name.split()[0] in out for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["atack"], 2, "E_USAGE"),
        (["run", "--recipe", "nope"], 2, "E_CONFIG"),
        (["run", "--no-such-flag"], 2, "E_USAGE"),
        (["run", "--epochs", "3"], 2, "E_USAGE"),
        (["run", "--mode", "everything"], 2, "E_USAGE"),
        (["run", "--time-budget", "soon", "--mode", "baseline"], 2, "E_USAGE"),
        (["data", "show", "nowhere.npz"], 2, "E_FILE_MISSING"),
        (["data", "show", "mnist:test:10", "--n", "20"], 2, "E_USAGE"),
        (["attack", "--norm", "linf", "--eps", "0.1"], 2, "E_USAGE"),
        (["attack", "--model", "nowhere.pt", "--norm", "linf", "--eps", "0.1", "--data", "DATA"], 2, "E_FILE_MISSING"),
        (["attack", "nowhere.pt", "--norm", "linf", "--eps", "0.1", "--data", "DATA"], 2, "E_FILE_MISSING"),
        (["attack", "a.pt", "--model", "b.pt", "--norm", "linf", "--eps", "0.1", "--data", "DATA"], 2, "E_USAGE"),
        (["attack", "nowhere.pt", "--norm", "linf", "--eps", "0.1"], 2, "E_USAGE"),
        (["run", "--model", "nowhere.pt"], 2, "E_USAGE"),
        (["run", "nowhere.pt", "--data", "DATA"], 2, "E_FILE_MISSING"),
        (["run", "nowhere.pt"], 2, "E_USAGE"),
        (["run", "a.pt", "--model", "b.pt", "--data", "DATA"], 2, "E_USAGE"),
        (["run", "quick"], 2, "E_USAGE"),
        (["certify", "nowhere.pt", "--norm", "linf", "--eps", "0.1", "--data", "DATA"], 2, "E_FILE_MISSING"),
        (["certify", "nowhere.pt", "--norm", "linf", "--eps", "0.1"], 2, "E_USAGE"),
        (["backdoor", "scan", "nowhere.pt"], 2, "E_FILE_MISSING"),
        (["backdoor", "remove", "nowhere.pt", "--out", "x.safetensors"], 2, "E_USAGE"),
        (["harden", "nowhere.pt", "--norm", "linf", "--eps", "0.1", "--out", "x.safetensors"], 2, "E_USAGE"),
        (
            ["harden", "nowhere.pt", "--data", "DATA", "--norm", "linf", "--eps", "0.1", "--out", "x.safetensors"],
            2,
            "E_FILE_MISSING",
        ),
        (["harden", "--arch", "n.py:f", "--norm", "linf", "--eps", "0.1", "--out", "x.safetensors"], 2, "E_USAGE"),
        (["audit", "log", "verify", "nowhere.jsonl"], 2, "E_FILE_MISSING"),
        (["audit", "log", "verify", "DATA"], 4, "E_LOG"),
        (["report", "nowhere"], 2, "E_FILE_MISSING"),
        (
            [
                "backdoor",
                "plant",
                "--trigger",
                "star",
                "--target-label",
                "1",
                "--poison-count",
                "1",
                "--out",
                "x",
                "--data",
                "DATA",
            ],
            2,
            "E_TRIGGER",
        ),
    ],
)
def test_errors_have_their_exit_code_and_their_code_in_both_formats(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    digit_files: dict[str, Path],
    arguments: list[str],
    code: int,
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(digit_files["test"]) if word == "DATA" else word for word in arguments]
    got, out, err = call(capsys, *given)
    assert (got, out) == (code, "")
    assert error in err
    assert "Traceback" not in err
    got, content = call_json(capsys, *given)
    assert got == code
    assert set(content) == {"schema_version", "error"}
    assert set(content["error"]) == {"code", "message", "where", "expected", "got", "hint"}
    assert content["error"]["code"] == error
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_attack_takes_an_exported_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """White-box, on a `.pt2` that answers with probabilities and computes in batches of its own size."""
    exported = Path(__file__).parent.parent / "files" / "fixtures" / "torch_2_13_four.pt2"
    x = np.random.default_rng(0).uniform(0, 1, (40, 1, 8, 8)).astype(np.float32)
    network = load_model(exported).network
    y = torch.cat([network(torch.from_numpy(part)).argmax(dim=1) for part in np.split(x, 10)]).numpy()
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = str(tmp_path / "data.npz")
    code, content = call_json(
        capsys, "attack", "--model", str(exported), "--data", data, "--norm", "linf", "--eps", "1", "--attack", "pgd"
    )
    assert (code, content["model"]["format"], content["model"]["access"]) == (0, "pt2", "gradients")
    assert content["clean_accuracy"]["value"] == 1.0
    assert content["robust_accuracy"]["value"] < 1.0
    assert content["attacks"][0]["backward_passes"] > 0
    assert ["4 images" in content["fixes"][0], "probabilities" in content["fixes"][1]] == [True, True]


def test_attack_answers_the_contract(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path], tmp_path: Path
) -> None:
    saved = tmp_path / "adv.npz"
    code, content = call_json(
        capsys, "attack", "--model", str(model), "--data", str(digit_files["test"]), "--norm", "linf",
        "--eps", "64/255", "--attack", "fgsm,pgd:steps=5", "--save-adversarial", str(saved), "--seed", "3",
    )  # fmt: skip
    assert code == 0
    assert content["schema_version"] == 1
    assert content["budget"] == {"norm": "linf", "eps": 64 / 255, "eps_text": "64/255"}
    assert content["data"]["n"] == 300
    assert [row["name"] for row in content["attacks"]] == ["fgsm", "pgd"]
    for row in content["attacks"]:
        assert set(row) >= {"name", "seconds", "forward_passes", "backward_passes", "robust_accuracy"}
    for name in ("clean_accuracy", "robust_accuracy", "attack_success_rate"):
        assert set(content[name]) == {"value", "ci_low", "ci_high", "n", "successes", "n_effective"}
    assert content["attacks"][-1]["robust_accuracy"] == content["robust_accuracy"]
    assert content["trust"]["verdict"] == "doubtful"
    assert 0 <= content["probe_seconds"] < 60
    assert {check["outcome"] for check in content["trust"]["checks"]} <= {"pass", "fail", "not_run"}
    with np.load(saved) as arrays:
        assert arrays["x_adv"].shape == (300, 1, 28, 28)
        clean = np.load(digit_files["test"])["x"][:, None].astype(np.float32) / 255
        assert float(np.abs(arrays["x_adv"] - clean).max()) <= 64 / 255 + 1e-6
        assert arrays["model_digest"].tobytes().hex() == content["model"]["digest"]


def test_a_doubtful_number_is_never_printed_without_the_word(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path]
) -> None:
    code, out, _ = call(
        capsys, "attack", "--model", str(model), "--data", str(digit_files["test"]), "--norm", "linf", "--eps", "0.3",
        "--attack", "fgsm",
    )  # fmt: skip
    assert code == 0
    first = out.splitlines()[0]
    assert "robust accuracy" in first
    assert "doubtful" in first


def test_a_model_that_is_fed_wrongly_owns_the_first_line_and_ends_in_3(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path]
) -> None:
    words = ["attack", str(model), "--data", str(digit_files["test"]), "--norm", "linf", "--eps", "2/255"]
    words += ["--attack", "fgsm", "--range", "1,0"]
    code, out, _ = call(capsys, *words)
    lines = out.splitlines()
    assert (code, lines[0].split(":")[0]) == (3, "CHECK THE INPUT")
    assert "--range 0,1" in lines[0]
    assert lines[-1].startswith("exit 3: ")
    assert "train adversarially" not in out
    code, content = call_json(capsys, *words)
    assert code == 3
    assert {finding["id"] for finding in content["findings"]} == {"SAI-PF-001"}


@pytest.mark.parametrize(
    "bad",
    [
        ["--eps", "0"], ["--eps", "-0.1"], ["--eps", "nan"], ["--eps", "1.5"], ["--eps", "1/0"], ["--norm", "l3"],
        ["--attack", "pgd:steps=1000000000"], ["--attack", "pgd:step=3"], ["--attack", "nothing"], ["--attack", ""],
        ["--batch-size", "1000000"], ["--batch-size", "0"], ["--range", "1,1"], ["--std", "0"], ["--mean", "x"],
        ["--seed", "-1"], ["--arch", "report2-cnn"], ["--arch", "missing.py:build"], ["--n", "100000"],
    ],
)  # fmt: skip
def test_bad_attack_requests_are_refused_before_work(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path], bad: list[str]
) -> None:
    settings = {"--norm": "linf", "--eps": "0.1", "--attack": "fgsm"} | {bad[0]: bad[1]}
    words = [word for pair in settings.items() for word in pair]
    code, content = call_json(capsys, "attack", "--model", str(model), "--data", str(digit_files["test"]), *words)
    assert code in (2, 3)
    assert content["error"]["code"].startswith("E_")


def test_plant_writes_a_set_that_can_be_read_back(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path], tmp_path: Path
) -> None:
    code, record = call_json(
        capsys, "backdoor", "plant", "--data", str(digit_files["train"]), "--trigger",
        "patch:size=3:place=top-left:value=1", "--poison-rate", "0.05", "--target-label", "2",
        "--out", str(tmp_path / "p"),
    )  # fmt: skip
    assert code == 0
    assert record["poison_count"] == 30
    code, facts = call_json(capsys, "data", "show", str(tmp_path / "p" / "poisoned.npz"))
    assert code == 0
    assert facts["digest"] == record["poisoned"]["digest"]
    assert json.loads((tmp_path / "p" / "poison.json").read_text()) == record


def test_dry_run_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, digit_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [f"data.{role}={json.dumps(str(path))}" for role, path in digit_files.items()]
    code, content = call_json(capsys, "run", "--recipe", "quick", "--dry-run", "--set", changes[0], "--set", changes[1])
    assert code == 0
    assert content["seconds"] == pytest.approx(sum(content["stages"].values()))
    assert list(tmp_path.iterdir()) == []


def test_report_2s_flags_are_taken_in_either_spelling(
    capsys: pytest.CaptureFixture[str], digit_files: dict[str, Path]
) -> None:
    for flags in (["--batch_size", "32", "--epsilon_fgsm", "0.2"], ["--batch-size", "32", "--epsilon-fgsm", "0.2"]):
        code, content = call_json(
            capsys,
            "run",
            "--mode",
            "adv_only",
            *flags,
            "--set",
            f"data.test={json.dumps(str(digit_files['test']))}",
            "--set",
            f"data.train={json.dumps(str(digit_files['train']))}",
            "--dry-run",
        )
        assert code == 0
        assert list(content["stages"])[:2] == ["report-2/baseline", "report-2/baseline/clean"]


def test_a_reader_that_leaves_early_is_no_error(model: Path, digit_files: dict[str, Path]) -> None:
    words = ["attack", "--model", str(model), "--data", str(digit_files["test"]), "--norm", "linf", "--eps", "0.1"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "secure_ai", *words, "--attack", "noise", "--access", "scores"],
            stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "E_USER_CODE" not in done.stderr
    assert "Traceback" not in done.stderr


def test_training_without_data_names_data_that_it_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["harden", "--arch", "n.py:f", "--norm", "linf", "--eps", "0.1", "--out", str(tmp_path / "x.safetensors")]
    _, said = call_json(capsys, *words)
    assert said["error"]["where"] == "--data"
    assert "mnist:train" in said["error"]["expected"]
    assert "mnist:test" not in said["error"]["expected"]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_command_says_what_is_kept_where_something_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("secure_ai.cli.main.build_app", interrupted)
    code, said = call_json(capsys, *name.split())
    assert (code, said["error"]["code"]) == (130, "E_INTERRUPTED")
    assert ("kept" in said["error"]["message"]) == (name in ("run", "harden", "backdoor scan"))


def test_sigterm_is_told_from_ctrl_c(tmp_path: Path, digit_files: dict[str, Path]) -> None:
    import signal

    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        words = ["run", "--recipe", "quick", "--out", str(tmp_path / str(code)), "--set", "report_1.epochs=500"]
        for role, path in digit_files.items():
            words += ["--set", f"data.{role}={json.dumps(str(path))}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            [sys.executable, "-m", "secure_ai", *words],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.SIG_DFL
            ),  # ignored where tests run in the background
        ) as process:
            assert process.stderr is not None
            assert "stages" in process.stderr.readline()
            wait_for(tmp_path / str(code) / "events.jsonl", "stage_started")
            process.send_signal(number)
            assert process.wait(timeout=60) == code
        report = json.loads((tmp_path / str(code) / "report.json").read_text())
        assert report["run"]["complete"] is False


def wait_for(path: Path, text: str) -> None:
    import time

    for _ in range(300):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.1)
    raise TimeoutError(text)


def test_a_surrogate_makes_transfer_available(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path], tmp_path: Path
) -> None:
    """Examples from an equal network are as good as the network's own; both counters are told."""
    base = ["attack", "--model", str(model), "--data", str(digit_files["test"]), "--norm", "linf", "--eps", "0.1"]
    base += ["--n", "60"]
    saved = tmp_path / "kept.npz"
    options = ["--attack", "transfer:steps=3", "--surrogate", str(model), "--save-adversarial", str(saved)]
    code, found = call_json(capsys, *base, *options)
    assert code == 0
    n = found["data"]["n"]
    assert found["surrogate"]["forward_passes"] >= 4 * found["attacks"][0]["attempted"] > 0
    assert found["surrogate"]["backward_passes"] == 3 * found["attacks"][0]["attempted"]
    assert found["attacks"][0]["forward_passes"] <= n
    assert found["attacks"][0]["knowledge"] == "transfer"
    code, scored = call_json(capsys, *base, "--attack", f"examples:{saved}")
    assert code == 0
    assert scored["robust_accuracy"] == found["robust_accuracy"]
    assert scored["surrogate"] is None


@pytest.mark.parametrize(
    "options",
    [
        ["--attack", "transfer"],
        ["--attack", "fgsm", "--surrogate", "MODEL"],
        ["--attack", "transfer", "--surrogate", "nowhere.safetensors"],
        ["--attack", "fgsm", "--surrogate-arch", "report1-cnn"],
        ["--attack", "examples:nowhere.npz"],
    ],
)
def test_a_surrogate_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, digit_files: dict[str, Path], options: list[str]
) -> None:
    base = ["attack", "--model", str(model), "--data", str(digit_files["test"]), "--norm", "linf", "--eps", "0.1"]
    code, _ = call_json(capsys, *base, *(str(model) if word == "MODEL" else word for word in options))
    assert code == 2


def test_running_out_of_memory_is_the_environment_s_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> Any:
        raise MemoryError

    monkeypatch.setattr("secure_ai.cli.main.build_app", exhausted)
    assert run_command(["report", "somewhere", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "E_ENVIRONMENT"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command(shell: Literal["bash", "zsh", "fish"]) -> None:
    text = build_app().generate_completion(shell=shell)
    assert [name for name in COMMANDS if name.split()[-1] not in text] == []
    assert "--device" in text
