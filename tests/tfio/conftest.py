"""Sound by tensorflow-io: `make test-tfio` runs these tests, in an environment that has it.

Elsewhere only those are collected that show what happens without it.
"""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore = [] if find_spec("tensorflow_io") else ["test_decoding.py", "test_run.py"]
