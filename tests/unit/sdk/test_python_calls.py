"""Calls and results as bytes: what is sent, what is kept, and what happens to values that cannot be sent."""

from __future__ import annotations

import hashlib
import importlib
import math
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from offerd.errors import BadMessage, ForgedResult, OfferdError
from offerd.python_calls import calls
from offerd.python_calls.function_pickles import pickle_function


def call_there(data: bytes) -> object:
    """Unpickle and call, as a worker does."""
    call = calls.unpack_call(data)
    args, kwargs = pickle.loads(call.arguments)
    return pickle.loads(call.function)(*args, **kwargs)


def script(source: str) -> Any:
    """A module like `__main__`: nothing in it can be found by name."""
    module = types.ModuleType("__main__")
    exec(source, module.__dict__)
    return module


def sealed(packed: bytes) -> bytes:
    """Pack a call without a key."""
    return hashlib.blake2b(packed, digest_size=calls.SEAL_BYTES).digest() + packed


def no_file(file: calls.File) -> bytes:
    raise AssertionError("no file was written")


def outcome(result: calls.Result) -> calls.Outcome:
    return calls.unpack_result(calls.pack_result(result), no_file)


class Unpicklable(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("held a lock")
        self.lock = threading.Lock()


class NeedsTwo(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)


class Evil(Exception):
    """An exception whose repr raises."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        raise ValueError("no pickle")


@pytest.mark.parametrize(
    ("args", "kwargs"), [((7, 2), {}), ((7,), {"b": 2}), ((), {"a": 7, "b": 2}), (([7], [2]), {})]
)
def test_a_call_arrives_with_its_arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    def pair(a: object, b: object) -> tuple[object, object]:
        return a, b

    assert call_there(calls.pack_call(pair, args, kwargs)) == pair(*args, **kwargs)


def test_calls_of_one_function_share_its_bytes() -> None:
    scale = 3
    function = lambda x: x * scale  # noqa: E731
    packed = [calls.unpack_call(calls.pack_call(function, (n,))).function for n in (1, 2)]
    assert packed[0] is packed[1] or packed[0] == packed[1]
    assert pickle_function(function) is pickle_function(function)


def test_a_rebound_global_is_sent_again() -> None:
    main = script("factor = 2\ndef f(x):\n    return x * factor\ndef g(x):\n    return f(x)")
    assert call_there(calls.pack_call(main.g, (5,))) == 10
    main.factor = 3
    assert call_there(calls.pack_call(main.g, (5,))) == 15


def test_a_redefined_helper_is_sent_again() -> None:
    main = script("def f(x):\n    return x\ndef g(x):\n    return f(x)")
    assert call_there(calls.pack_call(main.g, (5,))) == 5
    exec("def f(x):\n    return -x", main.__dict__)
    assert call_there(calls.pack_call(main.g, (5,))) == -5


def test_a_name_defined_later_is_sent() -> None:
    main = script("def f():\n    return len('abc')")
    assert call_there(calls.pack_call(main.f)) == 3
    exec("def len(x):\n    return 99", main.__dict__)
    assert call_there(calls.pack_call(main.f)) == 99


def test_a_changed_list_is_sent_again() -> None:
    main = script("seen = []\ndef f():\n    return list(seen)")
    assert call_there(calls.pack_call(main.f)) == []
    main.seen.append(1)
    assert call_there(calls.pack_call(main.f)) == [1]


def test_a_rebound_closure_is_sent_again() -> None:
    count = 1

    def read() -> int:
        return count

    assert call_there(calls.pack_call(read)) == 1
    count = 2
    assert call_there(calls.pack_call(read)) == 2


def test_a_changed_default_is_sent_again() -> None:
    main = script("def f(x=[1]):\n    return x")
    assert call_there(calls.pack_call(main.f)) == [1]
    main.f.__defaults__[0].append(2)
    assert call_there(calls.pack_call(main.f)) == [1, 2]


def set_defaults(main: Any) -> None:
    main.f.__defaults__ = (5,)


def set_keyword_defaults(main: Any) -> None:
    main.f.__kwdefaults__ = {"k": 5}


def change_keyword_defaults(main: Any) -> None:
    main.f.__kwdefaults__["k"] = True  # equal to what was there


def set_code(main: Any) -> None:
    main.f.__code__ = main.other.__code__


def set_attribute(main: Any) -> None:
    main.f.note = 5


def set_name(main: Any) -> None:
    main.f.__qualname__ = "else"


def set_annotation(main: Any) -> None:
    main.f.__annotations__["x"] = bytes


def set_helpers_defaults(main: Any) -> None:
    main.helper.__defaults__ = (5,)


def set_helpers_attribute(main: Any) -> None:
    main.helper.note = 5


def set_method(main: Any) -> None:
    main.Thing.get = lambda self: 5


def set_module_function(main: Any) -> None:
    main.shipped.get = lambda: 5


def set_nested_functions_global(main: Any) -> None:
    main.deep = 5


WATCHED = """
def other(x=1, *, k=1):
    return "other"
def helper(x=1):
    return getattr(helper, "note", x)
class Thing:
    def get(self):
        return 1
deep = 1
def f(x: int = 1, *, k=1):
    return x, str(k), helper(), Thing().get(), shipped.get(), (lambda: deep)(), \\
        getattr(f, "note", 1), f.__qualname__, dict(f.__annotations__)
"""


@pytest.fixture
def shipped() -> Iterator[types.ModuleType]:
    """A module that slaves do not have."""
    module = types.ModuleType("shipped")
    exec("def get():\n    return 1", module.__dict__)
    sys.modules["shipped"] = module
    cloudpickle.register_pickle_by_value(module)
    yield module
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules["shipped"]


@pytest.mark.parametrize(
    "change",
    [
        set_defaults, set_keyword_defaults, change_keyword_defaults, set_code, set_attribute, set_name, set_annotation,
        set_helpers_defaults, set_helpers_attribute, set_method, set_module_function, set_nested_functions_global,
    ],
)  # fmt: skip
@pytest.mark.parametrize("without", ["", "Thing().get(), shipped.get(), "])
def test_whatever_a_function_is_made_of_is_sent_as_it_is_now(
    change: Callable[[Any], None], without: str, shipped: types.ModuleType
) -> None:
    """This holds also for a function whose pickle is kept, as nothing that it reaches can change in place."""
    main = script(WATCHED.replace(without, ""))
    main.shipped = shipped
    before = main.f()
    assert call_there(calls.pack_call(main.f)) == before
    change(main)
    assert call_there(calls.pack_call(main.f)) == main.f()
    assert main.f() != before or (without and change in (set_method, set_module_function))


def test_a_submodule_that_was_imported_meanwhile_is_sent_along() -> None:
    main = script("import xml\ndef f():\n    return xml.dom.pulldom.START_DOCUMENT")
    pickle_function(main.f)
    names = ("xml.dom.pulldom", "xml.dom")
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    try:
        before = pickle_function(main.f).data
        importlib.import_module("xml.dom.pulldom")
        assert b"xml.dom.pulldom" in pickle_function(main.f).data
        assert b"xml.dom.pulldom" not in before
    finally:
        sys.modules.update(hidden)


def test_a_helper_that_is_shipped_from_now_on_is_sent_by_value() -> None:
    main = script("from statistics import mean\ndef f():\n    return mean([1, 3])")
    assert len(pickle_function(main.f).data) < 2000
    import statistics

    cloudpickle.register_pickle_by_value(statistics)
    try:
        assert len(pickle_function(main.f).data) > 2000
    finally:
        cloudpickle.unregister_pickle_by_value(statistics)
    assert len(pickle_function(main.f).data) < 2000


def test_a_callable_that_is_equal_to_a_function_is_not_taken_for_it() -> None:
    main = script("def f():\n    return 1\nclass Like:\n    def __call__(self):\n        return 2")
    main.Like.__hash__ = lambda self: hash(main.f)
    main.Like.__eq__ = lambda self, other: True
    assert call_there(calls.pack_call(main.f)) == 1
    assert call_there(calls.pack_call(main.Like())) == 2


def test_a_bound_method_travels_with_what_its_object_holds_now() -> None:
    main = script("class C:\n    def get(self):\n        return self.value")
    thing = main.C()
    thing.value = 1
    assert call_there(calls.pack_call(thing.get)) == 1
    thing.value = 2
    assert call_there(calls.pack_call(thing.get)) == 2


def test_functions_of_importable_modules_travel_by_name() -> None:
    assert b"sqrt" in pickle_function(math.sqrt).data
    assert len(pickle_function(cloudpickle.dumps).data) < 100


def test_recursive_functions_travel() -> None:
    main = script("def f(n):\n    return 1 if n == 0 else n * f(n - 1)")
    assert call_there(calls.pack_call(main.f, (5,))) == 120
    assert pickle_function(main.f) is pickle_function(main.f)


def test_what_cannot_be_pickled_raises_at_the_caller() -> None:
    with pytest.raises(TypeError, match="lock"):
        calls.pack_call(print, (threading.Lock(),))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01\x02\x80", pickle.dumps(1)])
def test_other_bytes_than_a_call_are_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        calls.unpack_call(data)


@pytest.mark.parametrize("value", [None, 1, "x", b"x" * 1000, [1, {"a": (2,)}], lambda x: x])
def test_a_value_comes_back(value: object) -> None:
    back = outcome(calls.Inline(calls.pickle_value(value)))
    assert back.exception is None
    assert back.value == value or callable(back.value)


def test_a_value_in_a_file_is_fetched() -> None:
    pickled = pickle.dumps("from a file")
    file = calls.file_result("results/t", pickled)
    data = calls.pack_result(file)
    asked: list[calls.File] = []

    def read(file: calls.File) -> bytes:
        asked.append(file)
        return pickled

    assert calls.unpack_result(data, read).value == "from a file"
    assert asked == [file]


class RunsCode:
    """Records that it was unpickled."""

    ran: list[str] = []

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return RunsCode.ran.append, ("ran",)


@pytest.mark.parametrize("is_raised", [False, True])
def test_a_result_that_is_not_sealed_with_the_calls_key_is_not_unpickled(is_raised: bool) -> None:
    pickled = pickle.dumps(RunsCode())
    result = calls.Raised(pickled, "") if is_raised else calls.Inline(pickled)
    keys = calls.Keys()
    ours, others = keys.new(), keys.new()
    good = calls.pack_result(result, ours)
    tampered = [good[:-1] + bytes([good[-1] ^ 1]), bytes([good[0] ^ 1]) + good[1:], good[1:], good[:15], b""]
    for data in (calls.pack_result(result, others), calls.pack_result(result), *tampered):
        with pytest.raises(ForgedResult):
            calls.unpack_result(data, no_file, ours)
    assert RunsCode.ran == []


@pytest.mark.parametrize("held", [b"other", b"", pickle.dumps(RunsCode()) + b"."])
def test_a_file_that_does_not_hold_what_was_sealed_is_not_unpickled(held: bytes) -> None:
    data = calls.pack_result(calls.file_result("results/t", pickle.dumps(RunsCode())))
    with pytest.raises(OfferdError, match=r"SHA-256|instead of"):
        calls.unpack_result(data, lambda _: held)
    same_length = pickle.dumps(RunsCode()).replace(b"ran", b"RAN", 1)
    with pytest.raises(OfferdError, match="SHA-256"):
        calls.unpack_result(data, lambda _: same_length)
    assert RunsCode.ran == []


def test_each_call_has_a_key_of_its_own_and_it_travels_with_the_call() -> None:
    keys = [each for made in (calls.Keys(), calls.Keys()) for each in (made.new() for _ in range(1000))]
    assert len(set(keys)) == 2000
    assert {len(key) for key in keys} == {calls.KEY_BYTES}
    packed = calls.pack_call(max, (1, 2))
    call, bare = calls.unpack_call(calls.with_key(packed, keys[0])), calls.unpack_call(packed)
    assert (call.function, call.arguments, call.key) == (bare.function, bare.arguments, keys[0])
    assert bare.key == b""


def test_an_exception_comes_back_with_the_workers_traceback() -> None:
    try:
        int("nothing")
    except ValueError as error:
        back = outcome(calls.raised(error))
    assert isinstance(back.exception, ValueError)
    assert isinstance(back.exception.__cause__, calls.RemoteTraceback)
    assert 'int("nothing")' in str(back.exception.__cause__)


@pytest.mark.parametrize("error", [Unpicklable(), NeedsTwo(1, 2), Evil(), ValueError("x" * 200_000)])
def test_an_exception_that_cannot_travel_becomes_one_that_can(error: Exception) -> None:
    result = calls.raised(error)
    assert len(calls.pack_result(result)) < 4 * calls.EXCEPTION_BYTES
    back = outcome(result)
    assert isinstance(back.exception, RuntimeError)
    assert type(error).__name__ in str(back.exception)


def test_our_own_frames_are_hidden_from_the_traceback() -> None:
    def ours() -> None:
        raise ValueError("here")

    try:
        ours()
    except ValueError as error:
        hidden, shown = calls.raised(error, hidden_frames=1), calls.raised(error)
    assert "ours()" in shown.traceback
    assert "ours()" not in hidden.traceback
    assert 'raise ValueError("here")' in hidden.traceback


def test_a_value_that_cannot_be_unpickled_here_is_an_exception() -> None:
    back = outcome(calls.Inline(b"no pickle"))
    assert isinstance(back.exception, RuntimeError)
    assert "cannot be unpickled" in str(back.exception)


@pytest.mark.parametrize(
    "data",
    [
        sealed(b""),
        sealed(b"\x92\xa6Strange\x00"),
        sealed(b"\x91" * 5000),
        calls.pack_result(calls.Raised(pickle.dumps(1), "")),
    ],
)
def test_other_bytes_than_a_result_are_a_bad_message(data: bytes) -> None:
    with pytest.raises(BadMessage):
        calls.unpack_result(data, no_file)


def test_a_worker_unpickles_a_function_once() -> None:
    cache = calls.FunctionCache()
    pickled = pickle_function(lambda: 1).data
    assert cache.load(pickled) is cache.load(bytes(bytearray(pickled)))


def test_a_call_finds_an_objects_method_as_it_was_sent() -> None:
    """A worker keeps functions, not objects that earlier calls have changed."""
    main = script(
        "class Counter:\n    n = 0\n    def more(self):\n        self.n += 1\n        return self.n"
    )
    cache = calls.FunctionCache()
    assert [cache.load(*pickle_function(main.Counter().more))() for _ in range(2)] == [1, 1]


def test_a_call_finds_a_class_as_it_was_sent_also_when_it_was_changed_and_changed_back() -> None:
    main = script("class Thing:\n    size = 1\ndef f():\n    return Thing.size")
    cache = calls.FunctionCache()
    for size in (1, 2, 1):
        main.Thing.size = size
        assert cache.load(*pickle_function(main.f))() == size


def test_a_call_finds_a_closure_as_it_was_sent() -> None:
    seen: list[int] = []

    def add() -> int:
        seen.append(1)
        return len(seen)

    cache = calls.FunctionCache()
    assert [cache.load(*pickle_function(add))() for _ in range(3)] == [1, 1, 1]


def test_the_function_least_recently_used_is_forgotten_first() -> None:
    cache = calls.FunctionCache(count=2)
    first, second, third = (cloudpickle.dumps(eval(f"lambda: {n}")) for n in range(3))
    kept = cache.load(first)
    cache.load(second)
    cache.load(first)
    cache.load(third)
    assert len(cache) == 2
    assert cache.load(first) is kept


def test_functions_that_hold_much_push_out_others() -> None:
    cache = calls.FunctionCache(size_bytes=10_000)
    for number in range(5):
        ballast = bytes([number]) * 4_000
        cache.load(cloudpickle.dumps(lambda ballast=ballast: ballast))
    assert len(cache) == 2
