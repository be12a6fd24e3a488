"""What ships with Earshot as TOML files."""

from __future__ import annotations

from importlib.resources import files


def shipped(folder: str) -> list[str]:
    """The names of the ``profiles`` or ``presets``."""
    entries = (files("beam_pipeline") / folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))
