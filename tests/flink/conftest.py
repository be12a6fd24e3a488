"""Flink: `make test-flink` runs these tests. They download half a gigabyte, and take minutes."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("EARSHOT_TEST_FLINK") else ["test_cluster.py"]
