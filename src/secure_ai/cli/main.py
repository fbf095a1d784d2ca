"""The commands. Each is imported when it is called, so that help needs neither torch nor anything else that is slow."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from cyclopts import App, CycloptsError

import secure_ai
from secure_ai.cli.process import prepare_process
from secure_ai.core.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TERMINATED,
    SecureAIError,
    printable,
)
from secure_ai.core.results import SCHEMA_VERSION
from secure_ai.files.sandbox.linux import protect_this_process

# name -> (where, help); "group name" makes a sub-command
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("secure_ai.cli.run:run", "Attack and judge a model, or reproduce the two reports; write the report."),
    "train": ("secure_ai.cli.train:train", "Train a built-in network on your data."),
    "harden": ("secure_ai.cli.harden:harden", "Train a network so that it withstands attacks."),
    "certify": ("secure_ai.cli.certify:certify", "Prove how many predictions no attack can change."),
    "attack": ("secure_ai.cli.attack:attack", "Attack a model; every figure has an interval and a trust verdict."),
    "backdoor plant": ("secure_ai.cli.backdoor:plant", "Plant a backdoor in a training set."),
    "backdoor scan": ("secure_ai.cli.backdoor_scan:scan", "Scan a model for a backdoor, compared with clean networks."),
    "backdoor filter": ("secure_ai.cli.backdoor_repair:filter_data", "Find poisoned training images; write the rest."),
    "backdoor remove": ("secure_ai.cli.backdoor_repair:remove", "Repair a model in which a scan finds a backdoor."),
    "audit code": ("secure_ai.cli.audit:code", "Audit Python code with Bandit."),
    "audit log verify": ("secure_ai.cli.audit:log_verify", "Check the hash chain of an event log."),
    "report": ("secure_ai.cli.report:report", "Show a finished run again, in another format."),
    "replay": ("secure_ai.cli.replay:replay", "Rebuild an adversarial example of a run and compare it bit for bit."),
    "threats show": ("secure_ai.cli.threats:show", "Show the STRIDE threat register, with the evidence of a run."),
    "doctor": ("secure_ai.cli.doctor:doctor", "Check this installation: what works, and what to do about the rest."),
    "data fetch": ("secure_ai.cli.data:fetch", "Download MNIST and verify it."),
    "data show": ("secure_ai.cli.data:show", "Show what a data set holds."),
}

GROUPS = {
    "backdoor": "Backdoors: plant, scan, filter, remove.",
    "audit": "Audit code and event logs.",
    "audit log": "Event logs.",
    "threats": "The STRIDE register.",
    "data": "Data sets.",
}

KEEPING = ("run", "harden", "backdoor scan")  # the same command goes on from what was finished; others start again
MAX_TRACE_CHARACTERS = 1000
STDOUT_FAILURES = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT)


class Terminated(KeyboardInterrupt):
    """SIGTERM: stop as for Ctrl-C, with an exit code of its own."""


def build_app() -> App:
    """The command tree."""
    app = App(
        name="secure-ai",
        help="Red-team, blue-team and audit an image classifier, and learn which of the numbers can be trusted.",
        version=secure_ai.__version__,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    app.register_install_completion_command(add_to_startup=False)
    groups: dict[str, App] = {"": app}
    for name, text in GROUPS.items():
        parent, _, last = name.rpartition(" ")
        groups[name] = App(name=last, help=text, suppress_keyboard_interrupt=False, result_action="return_value")
        groups[parent].command(groups[name])
    for name, (where, text) in COMMANDS.items():
        parent, _, last = name.rpartition(" ")
        groups[parent].command(where, name=last, help=text)
    return app


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Parse, call, render, and exit with the code that `core.errors` lists. For a process of its own only."""
    prepare_process()
    protect_this_process()  # so that no process of the same user reads this one's memory; a library must not do it
    sys.exit(run_command(list(sys.argv[1:] if arguments is None else arguments)))


def run_command(arguments: list[str]) -> int:
    """The exit code of one command line. A bug ends with its traceback and a code that stands for nothing else."""
    if sys.stdout is None:  # started with a closed stdout
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  # for the whole process
    previous = signal.signal(signal.SIGTERM, _on_sigterm)
    as_json = any(word == "--json" or word.startswith("--json=") for word in arguments)
    try:
        code = build_app()(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich's way of saying that nobody reads any more
            _discard_stdout()
            return EXIT_OK
        return _refuse(_error("E_USER_CODE", "the code that was named ended the process"), as_json, EXIT_INCONCLUSIVE)
    except CycloptsError as error:
        return _refuse(_usage_error(error), as_json, EXIT_BAD_INPUT)
    except SecureAIError as error:
        return _refuse(error.as_json(), as_json, error.exit_code)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        code, word = ("E_TERMINATED", "terminated") if terminated else ("E_INTERRUPTED", "interrupted")
        message = f"{word}: what was finished is kept" if " ".join(arguments).startswith(KEEPING) else word
        return _refuse(_error(code, message), as_json, EXIT_TERMINATED if terminated else EXIT_INTERRUPTED)
    except MemoryError:
        message = "out of memory"
        return _refuse(_error("E_ENVIRONMENT", message, "this process", "no memory left"), as_json, EXIT_INCONCLUSIVE)
    except BrokenPipeError:
        # Nobody reads any more: that is the reader's business, and Python must not complain about it at exit.
        _discard_stdout()
        return EXIT_OK
    except OSError as error:
        if error.errno not in STDOUT_FAILURES:
            return _bug(error, as_json)
        _discard_stdout()
        message = "the output cannot be written"
        return _refuse(_error("E_ENVIRONMENT", message, "stdout", str(error.strerror)), False, EXIT_INCONCLUSIVE)
    except Exception as error:  # noqa: BLE001  # a bug, and whatever it is, it must not end as `findings`
        return _bug(error, as_json)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _bug(error: Exception, as_json: bool) -> int:
    """The traceback on stderr, line by line: what a hostile file put into a message is shown escaped."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        print(printable(line, MAX_TRACE_CHARACTERS), file=sys.stderr)
    message = f"a bug of secure-ai: {printable(type(error).__name__)}"
    return _refuse(_error("E_BUG", message, hint="please report the traceback on stderr"), as_json, EXIT_BUG)


def _discard_stdout() -> None:
    """What is still buffered must not fail again when Python exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _on_sigterm(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _error(code: str, message: str, where: str = "", hint: str = "") -> dict[str, str]:
    return {"code": code, "message": message, "where": where, "expected": "", "got": "", "hint": hint}


def _usage_error(error: CycloptsError) -> dict[str, str]:
    argument = getattr(error, "argument", None)
    where = str(argument.name) if argument is not None else " ".join(getattr(error, "command_chain", None) or ())
    return _error("E_USAGE", printable(" ".join(str(error).split())), printable(where), "see --help")


def _refuse(error: dict[str, str], as_json: bool, code: int) -> int:
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "error": error}))
    else:
        print(f"error {error['code']}: {error['message']}", file=sys.stderr)
        for name in ("where", "expected", "got", "hint"):
            if error[name]:
                print(f"  {name}: {error[name]}", file=sys.stderr)
    return code
