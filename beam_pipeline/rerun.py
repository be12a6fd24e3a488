"""The first step of a scheduled rerun: look whether one is needed, and only then have Dataflow start the flex template.

    python -m beam_pipeline.rerun --project P --region R --template gs://…/earshot.json --job-name earshot \\
        --worker-account W --staging gs://… --parameter profile=auto_acd --parameter clips=gs://… …

It ends with 0 whether a job was started, was not needed, or is running already; with 2 where something has to be put
right first; with 1 where Dataflow did not take the job.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.needed import Need, need
from transforms.ingest import ClipSource, SourceError
from transforms.telemetry import line

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AGAIN = (429, 500, 502, 503, 504)
_TIMEOUT_S = 60


class NotLaunched(RuntimeError):
    """Dataflow did not take the job. The message holds its reason."""


@dataclass(frozen=True)
class Launch:
    """What is launched, and as whom.

    Attributes:
        project: Google's, by id.
        region: of the job.
        template: the flex template's spec, ``gs://…``.
        job_name: the same for each run: Dataflow refuses a second job of a name while the first one runs.
        worker_account: the account of the job's machines.
        staging: a bucket, ``gs://…``, below which jobs stage.
        endpoint: Dataflow's address.
    """

    project: str
    region: str
    template: str
    job_name: str
    worker_account: str
    staging: str
    endpoint: str = "https://dataflow.googleapis.com"

    @property
    def url(self) -> str:
        """Of the method ``projects.locations.flexTemplates.launch``."""
        return f"{self.endpoint}/v1b3/projects/{self.project}/locations/{self.region}/flexTemplates:launch"

    def body(self, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Of the request. A key is never among the parameters: workers read it from Secret Manager."""
        return {
            "launchParameter": {
                "jobName": self.job_name,
                "containerSpecGcsPath": self.template,
                "parameters": dict(parameters),
                "environment": {
                    "serviceAccountEmail": self.worker_account,
                    "tempLocation": f"{self.staging.rstrip('/')}/temp",
                    "stagingLocation": f"{self.staging.rstrip('/')}/staging",
                },
            }
        }


def look(parameters: Mapping[str, str]) -> Need:
    """Says whether a run with the template's parameters is needed."""
    profile, source = profile_of(parameters), source_of(parameters)
    return need(profile, source, _needed(parameters, "output"), parameters.get("retry_failed", "") == "true")


def profile_of(parameters: Mapping[str, str]) -> Profile:
    """The profile that the parameters name, with its models where they say."""
    return replace(load_profile(_needed(parameters, "profile")), models=parameters.get("models", ""))


def source_of(parameters: Mapping[str, str]) -> ClipSource:
    """The source that the parameters name."""
    limit = parameters.get("limit", "")
    return ClipSource(
        _needed(parameters, "clips"),
        kind=parameters.get("source_format", "auto"),
        media=parameters.get("media", ""),
        class_labels=parameters.get("class_labels", ""),
        limit=int(limit) if limit else None,
    )


def start(launch: Launch, parameters: Mapping[str, str]) -> str:
    """Has Dataflow start the template; returns the job's id, or nothing where a job of this name is running already.

    Raises:
        NotLaunched: Dataflow refused, or could not be reached.
    """
    import google.auth
    import requests
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession
    from urllib3.util.retry import Retry

    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        session = AuthorizedSession(credentials)
        again = Retry(total=4, backoff_factor=1, status_forcelist=_AGAIN, allowed_methods=None, raise_on_status=False)
        for scheme in ("https://", "http://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=again))
        reply = session.post(launch.url, json=launch.body(parameters), timeout=_TIMEOUT_S)
    except (GoogleAuthError, requests.RequestException) as error:
        raise NotLaunched(f"Dataflow could not be asked: {error}") from error
    if reply.status_code == 409:
        return ""
    if not reply.ok:
        raise NotLaunched(f"Dataflow answered {reply.status_code}: {_said(reply)}")
    try:
        return str(reply.json()["job"]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise NotLaunched(f"Dataflow's answer names no job: {reply.text[:300]!r}") from error


def _said(reply: Any) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return repr(reply.text[:300])


def _needed(parameters: Mapping[str, str], name: str) -> str:
    if not parameters.get(name):
        raise ConfigError(f"--parameter {name}=… is missing")
    return parameters[name]


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline.rerun", allow_abbrev=False)
    for name in ("project", "region", "template", "job-name", "worker-account", "staging"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--endpoint", default=Launch.endpoint)
    parser.add_argument("--parameter", type=_pair, action="append", default=[], dest="parameters", metavar="NAME=VALUE")
    found = vars(parser.parse_args(arguments))
    parameters = dict(found.pop("parameters"))
    from model_handlers.weights import ModelError

    try:
        asked = look(parameters)
        print(line({"step": "check", "needed": asked.needed, "why": asked.why}), flush=True)
        if asked.needed:
            job = start(Launch(**found), parameters)
            print(line({"step": "launch", "job": job} if job else {"step": "launch", "running": True}), flush=True)
    except (ConfigError, SourceError, ModelError, ValueError) as error:
        print(line({"step": "check", "error": str(error)}), file=sys.stderr)
        return 2
    except (NotLaunched, OSError) as error:
        print(line({"step": "launch", "error": str(error)}), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
