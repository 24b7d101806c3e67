"""The call that a framework wants made in each worker before its first one: `ClusterExecutor(initializer=..., initargs=...)`.

It sets something up, often a global variable of the program that later calls use. A function of such a program is sent by
value, each time with globals of its own. So what the initializer has set is copied into the globals of each function that is
called later, in place of the values that were sent.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
import types
from collections.abc import Iterator

from offerd.python_calls import calls

FILE = "initializer"
"""In the sandbox, if the framework has an initializer: the packed call."""
_MISSING = object()


def store(call: bytes, sandbox: str) -> None:
    """Write the call where workers look for it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(os.path.join(sandbox, FILE), flags, 0o600), "wb") as file:
        file.write(call)


class Initializer:
    """A worker's initializer. `error` is what the call has raised: then no other call can be made."""

    def __init__(self, sandbox: str) -> None:
        self.error: BaseException | None = None
        self._is_due = True
        self._sandbox = sandbox
        self._set: dict[str, object] = {}
        """Globals that the call has set, with their values."""
        self._module_name = ""

    def run_once(self) -> None:
        """Make the call if there is one, the first time only."""
        if not self._is_due:
            return
        self._is_due = False
        try:
            with open(os.path.join(self._sandbox, FILE), "rb") as file:
                call = calls.unpack_call(file.read())
        except FileNotFoundError:
            return
        try:
            args, kwargs = pickle.loads(call.arguments)
            function = pickle.loads(call.function)
            namespace = next(_own_globals(function), {})
            before = dict(namespace)
            function(*args, **kwargs)
        except BaseException as error:  # marked: the framework's own code may raise anything
            self.error = error
            return
        self._module_name = str(namespace.get("__name__", ""))
        self._set = {
            name: value for name, value in namespace.items() if before.get(name, _MISSING) is not value
        }

    def hand_on(self, function: object) -> None:
        """Set the same globals for a function that was just unpickled."""
        if self._set:
            for namespace in _own_globals(function):
                if namespace.get("__name__") == self._module_name:
                    namespace.update(self._set)


def _own_globals(value: object) -> Iterator[dict[str, object]]:
    """The globals of functions that were sent by value, if `value` is one or would call some."""
    if isinstance(value, functools.partial):
        for part in (value.func, *value.args):
            yield from _own_globals(part)
    elif isinstance(value, types.MethodType):
        yield from _own_globals(value.__func__)
    elif isinstance(value, types.FunctionType):
        module = sys.modules.get(str(value.__globals__.get("__name__", "")))
        if module is None or module.__dict__ is not value.__globals__:
            yield value.__globals__
    else:
        for part in vars(value if isinstance(value, type) else type(value)).values():
            if isinstance(part, types.FunctionType):
                yield from _own_globals(part)
