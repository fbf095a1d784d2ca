"""Running the factory that `--arch` names: a user's code, executed in this process, unconfined."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from torch import nn

from secure_ai.core.errors import ArchError
from secure_ai.core.events import EventSink
from secure_ai.models.load.artifact import Arch
from secure_ai.models.target.watch import kept_process_state


def run_factory(arch: Arch, *, events: EventSink) -> nn.Module:
    """`call_factory` where a network is needed. Raises ArchError, also for another result."""
    made = call_factory(arch, events=events)
    if not isinstance(made, nn.Module):
        hint = "leave --model out: a callable that is no network has no weights to load" if callable(made) else ""
        got = type(made).__name__
        raise ArchError(
            "the factory returned no network", where=arch.text, expected="a torch.nn.Module", got=got, hint=hint
        )
    return made


def call_factory(arch: Arch, *, events: EventSink) -> Any:
    """Call the factory and return what it makes.

    What the code prints goes to standard error; torch's global random state and default dtype are left as they were.

    Args:
        events: told `user_code` before anything runs.

    Raises:
        ArchError: the code cannot be imported, the factory is missing or raises.
    """
    events("user_code", {"arch": arch.text, "sha256": arch.code_sha256})
    with _kept_state(), _importable(arch.folder):
        try:
            module = importlib.import_module(arch.module) if arch.code is None else _execute(arch, arch.code)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise _failed("the module of the architecture cannot be imported", arch, error) from error
        factory = getattr(module, arch.factory, None)
        if not callable(factory) or isinstance(factory, nn.Module):
            got = "nothing of that name" if factory is None else type(factory).__name__
            raise ArchError("no factory of that name", where=arch.text, expected="a function or class", got=got)
        try:
            return factory()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's factory may raise anything
            raise _failed("the factory raised an error", arch, error) from error


def _failed(message: str, arch: Arch, error: BaseException) -> ArchError:
    return ArchError(
        message,
        where=arch.text,
        expected="a factory that takes no argument and returns a torch.nn.Module",
        got=f"{type(error).__name__}: {error}",
    )


def _execute(arch: Arch, code: types.CodeType) -> types.ModuleType:
    # registered, because dataclasses and typing look their module up by name; the digest keeps two files apart
    module = types.ModuleType(f"_secure_ai_user_{arch.code_sha256[:16]}")
    module.__file__ = os.path.join(arch.folder, arch.text.rpartition(":")[0])
    sys.modules[module.__name__] = module
    exec(code, module.__dict__)  # noqa: S102  # running it is what --arch asks for
    return module


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    """`import sibling` works as for a script; last on the path, so that no sibling shadows an installed module."""
    if folder:
        sys.path.append(folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have taken it out itself
            sys.path.remove(folder)


@contextlib.contextmanager
def _kept_state() -> Iterator[None]:
    with kept_process_state(), contextlib.redirect_stdout(sys.stderr):
        yield
