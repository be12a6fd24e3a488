"""Pages that Earshot writes or serves: whole in one file, and nothing in them comes from elsewhere or runs by accident.

What stands on them is untrusted text. Templates escape all of it, and a content security policy names the page's own
script by its hash, so that nothing else runs even where an escape were missing.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

FOLDERS = ("pages", "report", "review")


def file(name: str) -> str:
    """The text of a file of Earshot's own: ``style.css`` of `beam_pipeline.pages` is ``pages/style.css``.

    Raises:
        FileNotFoundError: there is none.
    """
    folder, _, rest = name.partition("/")
    if folder not in FOLDERS:
        raise FileNotFoundError(f"no folder of pages: {folder!r}")
    return (files("beam_pipeline") / folder / rest).read_text(encoding="utf-8")


def render(
    template: str, script: str = "", styles: tuple[str, ...] = (), connect: str = "'none'", **values: Any
) -> str:
    """A page.

    Args:
        template: of Jinja's, as `file` names it. It has `values`, and `policy`, `style` and `script` for its head.
        script: the page's JavaScript, as `file` names it.
        styles: further style sheets, after the one that all pages share.
        connect: where the script may send requests: ``'none'``, or ``'self'`` for a page that is served.
        values: what is shown; strings are escaped.
    """
    code = file(script) if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' data:",
            "media-src 'self' data:",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'" if code else "script-src 'none'",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    style = "\n".join(file(name) for name in ("pages/style.css", *styles))
    shown = {"policy": policy, "style": Markup(style), "script": Markup(code), **values}
    return _templates.get_template(template).render(shown)


# Autoescape for every name: a template of ours is HTML, whatever it is called.
_templates = Environment(
    loader=FunctionLoader(file), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
