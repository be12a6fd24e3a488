"""What a flex template runs: its parameters as options of ``earshot run``; nothing waits for the job's end.

Parameters reach this program as ``--name=value``, named as `template.py` declares them: with underscores, where options
have hyphens; and ``--name=true`` for an option that has no value.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from beam_pipeline.arguments import parser
from beam_pipeline.cli import main

RUNNER = "--runner=DataflowRunner"


def run_options() -> dict[str, argparse.Action]:
    """The options of ``earshot run`` that are a run's own, by the names of their parameters."""
    [commands] = [action for action in parser(["run"])._actions if isinstance(action, argparse._SubParsersAction)]
    left_out = ("help", "verbose")  # the log of a launch is for whoever looks for what went wrong: always verbose
    return {action.dest: action for action in commands.choices["run"]._actions if action.dest not in left_out}


def arguments(given: Sequence[str]) -> list[str]:
    """Returns the command line for a template's parameters; what is no option of Earshot goes to Beam as it is.

    Raises:
        ValueError: a parameter that is ``true`` or ``false`` is neither.
    """
    options = run_options()
    found = ["run", "--verbose"]
    for argument in given:
        name, _, value = argument.removeprefix("--").partition("=")
        option = options.get(name)
        if option is None:
            found.append(argument)
        elif option.nargs != 0:
            found.append(f"{option.option_strings[0]}={value}")
        elif value in ("true", "false"):
            found += option.option_strings[:1] * (value == "true")
        else:
            raise ValueError(f"{name} is {value!r}; it has to be true or false")
    if not any(argument.startswith("--runner") for argument in given):
        found.append(RUNNER)
    return found


if __name__ == "__main__":
    sys.exit(main(arguments(sys.argv[1:])))
