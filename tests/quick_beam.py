"""What Beam finds out anew thousands of times in each run, found out once: it halves what a small run takes.

A run of a few clips builds and takes apart some 400 steps. For each, Beam asks `inspect` several times for the
signatures of all methods of a `DoFn`, and builds an `argparse` parser for each look at the options. Neither depends on
anything but the class, the function and the flags, so the answers are remembered; nothing else of Beam is changed.
What tests start in processes of their own, and every real run, has Beam as it is.
"""

from __future__ import annotations

import copy
import sys
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core


def remember(patch: pytest.MonkeyPatch) -> None:
    """Makes Beam remember both until `patch` is undone."""
    patch.setattr(core, "get_function_args_defaults", _Signatures(core.get_function_args_defaults))
    patch.setattr(PipelineOptions, "view_as", _viewing(PipelineOptions.view_as))


class _Signatures:
    """The names and defaults of a method's arguments, by the function that it is made of."""

    def __init__(self, ask: Any):
        self._ask = ask
        self._known: WeakKeyDictionary[FunctionType, tuple[list[str], list[Any]]] = WeakKeyDictionary()

    def __call__(self, method: Any) -> tuple[list[str], list[Any]]:
        if not isinstance(method, MethodType) or not isinstance(method.__func__, FunctionType):
            return self._ask(method)
        if method.__func__ not in self._known:
            self._known[method.__func__] = self._ask(method)
        names, defaults = self._known[method.__func__]
        return [*names], [*defaults]


def _viewing(ask: Any) -> Any:
    parsed: dict[tuple[type, tuple[str, ...]], Any] = {}  # what is in the flags of the options of one class

    def view_as(options: Any, kind: Any) -> Any:
        if kind.__init__ is not PipelineOptions.__init__:
            return ask(options, kind)
        key = kind, tuple(sys.argv[1:] if options._flags is None else options._flags)
        if key not in parsed:
            parsed[key] = kind(options._flags)._visible_options
        view = kind.__new__(kind)
        view._flags, view._all_options = options._flags, options._all_options
        view._visible_options = copy.deepcopy(parsed[key])
        for name in view._visible_option_list():
            options._all_options.setdefault(name, getattr(view._visible_options, name))
        return view

    return view_as
