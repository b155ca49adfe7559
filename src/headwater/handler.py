"""A handler: the user's function, looked at once, when it is registered.

Found out here and never again on the way of an event: whether it is a coroutine function, how
it wants its arguments, what it is called and where it is written, whether it can be held
weakly. What cannot be called with one event is refused here, with its signature.
"""

import copy
import functools
import inspect
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, cast

from headwater.context import Context
from headwater.errors import InvalidHandler

Call = Callable[..., Any]
PassContext = Callable[[Call, object, Context | None], Any]

_KEYWORD = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Handler:
    """What headwater knows about a user's function.

    Attributes:
        function: the function as it was given.
        name: ``module.qualname``.
        where: ``file:line``, or the name where there is no source.
        is_async: calling it gives a coroutine.
        is_generator: calling it gives a generator, and runs nothing yet.
        pass_context: how to call it with the Context; None if it does not want one.

    Raises:
        InvalidHandler: it is not callable, or not with one event.
    """

    __slots__ = ("function", "is_async", "is_generator", "name", "pass_context", "where")

    def __init__(self, function: Call) -> None:
        if not callable(function):
            raise InvalidHandler(f"handler: expected something callable, got {function!r}")
        self.function = function
        core = _core(function)
        self.name = _name(core)
        self.where = _where(core) or self.name
        self.is_async = inspect.iscoroutinefunction(core) or inspect.iscoroutinefunction(
            _call_method(core)
        )
        self.is_generator = any(
            inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)
            for code in (core, _call_method(core))
        )
        self.pass_context = self._context_passing()

    def call(self, function: Call, event: object, context: Context | None) -> Any:
        """Call `function` (this handler's, or what a weak reference gave) as it wants it."""
        if self.pass_context is None:
            return function(event)
        return self.pass_context(function, event, context)

    def replaced(self, function: Call) -> "Handler":
        """The same handler, to be called by way of a function of ``(event, context)``."""
        other = copy.copy(self)
        other.function = function
        other.pass_context = _event_then_context
        return other

    def forget(self) -> None:
        """Hold the function no longer: a weak subscription holds it in its own way."""
        self.function = _forgotten

    def __repr__(self) -> str:
        return f"<Handler {self.name} at {self.where}>"

    def _context_passing(self) -> PassContext | None:
        try:
            signature = _signature(self.function)
        except (ValueError, TypeError):
            return None  # Some built-ins tell no signature: they are called with one event.
        parameters = list(signature.parameters.values())
        self._refuse_unbound(parameters, signature)
        context = next((p for p in parameters if _is_context(p, self.function)), None)
        if context is None:
            self._check_binds(signature, (None,), {})
            return None
        if parameters[0] is context and context.kind is not inspect.Parameter.KEYWORD_ONLY:
            self._check_binds(signature, (None, None), {})
            return lambda call, event, given: call(given, event)
        if context.kind in _KEYWORD:
            self._check_binds(signature, (None,), {context.name: None})
            name = context.name
            return lambda call, event, given: call(event, **{name: given})
        self._check_binds(signature, (None, None), {})
        return lambda call, event, given: call(event, given)

    def _refuse_unbound(
        self, parameters: list[inspect.Parameter], signature: inspect.Signature
    ) -> None:
        function = self.function
        if not isinstance(function, types.FunctionType) or not parameters:
            return
        in_class = "." in function.__qualname__.rpartition("<locals>.")[2]
        if in_class and parameters[0].name in ("self", "cls"):
            raise InvalidHandler(
                f"{self.name}{signature} at {self.where} is not bound to an object:"
                f" subscribe the bound method, for example in __init__:"
                f" bus.subscribe(what, self.{function.__name__})"
            )

    def _check_binds(
        self, signature: inspect.Signature, args: tuple[None, ...], kwargs: dict[str, None]
    ) -> None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            self._refuse(signature)

    def _refuse(self, signature: inspect.Signature) -> NoReturn:
        raise InvalidHandler(
            f"handler {self.name}{signature} at {self.where}: expected (event) or"
            f" (event, context), where context is annotated Context or named context"
        )


def weak_target(function: Call, died: Callable[[], None]) -> Callable[[], Call | None]:
    """Hold `function` weakly.

    Args:
        function: a bound method, a partial of one, or an object that somebody else keeps.
        died: called when the owner goes, inside the garbage collector.

    Returns:
        A function that gives `function` as long as its owner lives, then None.

    Raises:
        InvalidHandler: a lambda, a local function, a partial of a function, a method of a
            built-in object such as ``list.append`` (nothing else would keep them alive), or an
            owner that cannot be weakly referenced.
    """
    if isinstance(function, functools.partial):
        if not inspect.ismethod(function.func):
            raise InvalidHandler(
                f"weak=True: nothing else keeps {function!r} alive, it would vanish at once;"
                f" use weak=False"
            )
        partial: functools.partial[Any] = cast("Any", function)
        return _weak_partial(partial, weak_target(partial.func, died))
    owner: object = function.__self__ if inspect.ismethod(function) else function
    name = getattr(function, "__qualname__", "")
    local = isinstance(owner, types.FunctionType) and ("<lambda>" in name or "<locals>" in name)
    if local or _is_built_in_method(function):
        raise InvalidHandler(
            f"weak=True: nothing else keeps {name} alive, it would vanish at once;"
            f" use weak=False, or a bound method"
        )
    if not cast("Any", type(owner)).__weakrefoffset__:
        raise InvalidHandler(
            f"weak=True: {type(owner).__qualname__} cannot be weakly referenced;"
            f" add '__weakref__' to its __slots__, or use weak=False"
        )
    if inspect.ismethod(function):
        return weakref.WeakMethod(function, lambda reference: died())
    return weakref.ref(function, lambda reference: died())


def _is_built_in_method(function: Call) -> bool:
    """Whether it is made anew by each look at its owner, as methods are, but is none to Python."""
    methods = types.BuiltinMethodType | types.MethodWrapperType
    owner = getattr(function, "__self__", None)
    return isinstance(function, methods) and not isinstance(owner, types.ModuleType | None)


def _weak_partial(
    partial: "functools.partial[Any]", method: Callable[[], Call | None]
) -> Callable[[], Call | None]:
    args, keywords = partial.args, partial.keywords

    def target() -> Call | None:
        function = method()
        return None if function is None else functools.partial(function, *args, **keywords)

    return target


def _event_then_context(call: Call, event: object, given: Context | None) -> Any:
    return call(event, given)


def _forgotten(event: object) -> None:
    """Stands in for a function that is held weakly elsewhere."""


def _core(function: Call) -> Any:
    """The function, method or object at the bottom of partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _call_method(core: object) -> Any:
    """What runs when an object is called, as its class has it."""
    return getattr(type(core), "__call__", None)  # noqa: B004  # It is looked at, not asked for.


def _name(core: Any) -> str:
    named: Any = core if hasattr(core, "__qualname__") else cast("object", type(core))
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"


def _where(core: Any) -> str | None:
    if not hasattr(core, "__code__") and not inspect.ismethod(core):
        core = _call_method(core) or core
    code = getattr(inspect.unwrap(core), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else None


def _signature(function: Call) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # Evaluated when asked for, which a forward name would fail.
        from annotationlib import Format  # noqa: PLC0415

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _is_context(parameter: inspect.Parameter, function: Call) -> bool:
    if parameter.kind in _VARIADIC:
        return False
    annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
    if parameter.name == "context" or annotation is Context:
        return True
    if isinstance(annotation, str):
        words = annotation.replace("|", " ").replace("[", " ").replace("]", " ").split()
        named = any(word.strip("'\"").rpartition(".")[2] == "Context" for word in words)
        return named and _means_ours(annotation, function)
    return Context in getattr(annotation, "__args__", ())


def _means_ours(annotation: str, function: Call) -> bool:
    """Whether the word Context in a string annotation is ours, as far as its module tells."""
    module_globals = getattr(inspect.unwrap(_core(function)), "__globals__", {})
    return module_globals.get("Context", Context) is Context or "headwater" in annotation
