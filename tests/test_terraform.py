"""The Terraform of scheduled reruns, as far as it can be checked without Google: references, privileges, secrets.

That the provider's schemas accept it is shown by ``terraform validate`` (deploy/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest

from beam_pipeline import rerun
from beam_pipeline.arguments import parser

FOLDER = Path(__file__).parent.parent / "deploy" / "terraform"
# Each account, and all that it may do: the role and on what. Whatever is not here is too much.
PRIVILEGES = {
    "scheduler": {("roles/run.invoker", "google_cloud_run_v2_job.check")},
    "launcher": {
        ("roles/dataflow.developer", "project"),
        ("roles/iam.serviceAccountUser", "google_service_account.worker"),
        ("roles/storage.objectViewer", "google_storage_bucket.dataset"),
        ("roles/storage.objectViewer", "google_storage_bucket.staging"),
        ("roles/storage.objectViewer", "each"),
    },
    "worker": {
        ("roles/dataflow.worker", "project"),
        ("roles/storage.objectUser", "google_storage_bucket.dataset"),
        ("roles/storage.objectUser", "google_storage_bucket.staging"),
        ("roles/storage.objectViewer", "each"),
        ("roles/secretmanager.secretAccessor", "google_secret_manager_secret.llm_key"),
        ("roles/artifactregistry.reader", "google_artifact_registry_repository.images"),
    },
}

_PLACES = ("bucket", "secret_id", "service_account_id", "repository", "name")  # what a role may be held on


def _plain(value: Any) -> Any:
    """What the parser gives, without quotes around strings and without its notes."""
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items() if not str(name).startswith("__")}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.fixture(scope="module")
def blocks() -> dict[str, list[Any]]:
    """All blocks of all files, by kind."""
    found: dict[str, list[Any]] = {}
    for path in sorted(FOLDER.glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            for kind, some in _plain(hcl2.load(file)).items():
                found.setdefault(kind, []).extend(some)
    return found


@pytest.fixture(scope="module")
def resources(blocks: dict[str, list[Any]]) -> dict[str, dict[str, Any]]:
    """Resources by ``type.name``."""
    return {
        f"{kind}.{name}": body
        for block in blocks["resource"]
        for kind, named in block.items()
        for name, body in named.items()
    }


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def test_whatever_is_referred_to_is_there_and_every_variable_is_used(
    blocks: dict[str, list[Any]], resources: dict[str, Any]
) -> None:
    variables = {name for block in blocks["variable"] for name in block}
    local = {name for block in blocks["locals"] for name in block}
    text = "\n".join(strings(list(blocks.values())))
    assert set(re.findall(r"\bvar\.(\w+)", text)) == variables
    assert set(re.findall(r"\blocal\.(\w+)", text)) <= local
    assert set(re.findall(r"\b(google_\w+\.\w+)", text)) <= set(resources)


def test_every_account_may_do_what_it_needs_and_nothing_else(resources: dict[str, dict[str, Any]]) -> None:
    found: dict[str, set[tuple[str, str]]] = {name: set() for name in PRIVILEGES}
    for name, body in resources.items():
        if "_iam_" not in name:
            continue
        assert name.split(".")[0].endswith("_iam_member"), f"{name}: a binding or policy would take others' roles away"
        (account,) = re.findall(r"google_service_account\.(\w+)\.member", body["member"])
        place = next((body[key] for key in _PLACES if key in body), "")
        on = re.findall(r"(google_\w+\.\w+|each)\.", place)
        found[account].add((body["role"], on[0] if on else "project"))
    assert found == PRIVILEGES
    roles = {role for granted in found.values() for role, _ in granted}
    assert not [role for role in roles if re.search(r"owner|editor|[aA]dmin|roles/viewer", role)]


def test_only_dataflows_own_roles_are_held_on_the_project(resources: dict[str, dict[str, Any]]) -> None:
    on_project = {body["role"] for name, body in resources.items() if name.startswith("google_project_iam")}
    assert on_project == {"roles/dataflow.developer", "roles/dataflow.worker"}


def test_no_key_is_in_code_plan_or_state(blocks: dict[str, list[Any]], resources: dict[str, dict[str, Any]]) -> None:
    kinds = {name.split(".")[0] for name in resources}
    assert "google_secret_manager_secret" in kinds
    assert not kinds & {
        "google_secret_manager_secret_version",
        "google_service_account_key",
        "google_storage_bucket_object",
    }
    variables = {name for block in blocks["variable"] for name in block}
    assert not [name for name in variables if re.search(r"key|secret|token|password", name)]
    check = resources["google_cloud_run_v2_job.check"]
    assert "env" not in check["template"][0]["template"][0]["containers"][0]


def test_buckets_are_private_and_beside_the_workers(resources: dict[str, dict[str, Any]]) -> None:
    buckets = [body for name, body in resources.items() if name.startswith("google_storage_bucket.")]
    assert len(buckets) == 2
    for bucket in buckets:
        assert bucket["uniform_bucket_level_access"] is True
        assert bucket["public_access_prevention"] == "enforced"
        assert bucket["force_destroy"] is False
        assert bucket["location"] == "${var.region}"


def test_the_schedule_starts_paused_and_asks_for_one_job_as_the_scheduler(
    blocks: dict[str, list[Any]], resources: dict[str, dict[str, Any]]
) -> None:
    (paused,) = (block["paused"] for block in blocks["variable"] if "paused" in block)
    assert paused["default"] is True
    (target,) = resources["google_cloud_scheduler_job.rerun"]["http_target"]
    assert target["uri"] == "https://run.googleapis.com/v2/${google_cloud_run_v2_job.check.id}:run"
    assert target["oauth_token"][0]["service_account_email"] == "${google_service_account.scheduler.email}"


def test_the_check_runs_what_the_project_has_with_the_arguments_it_takes(resources: dict[str, dict[str, Any]]) -> None:
    template = resources["google_cloud_run_v2_job.check"]["template"][0]["template"][0]
    assert template["service_account"] == "${google_service_account.launcher.email}"
    container = template["containers"][0]
    assert container["command"] == ["python", "-m", rerun.__name__]
    given = set(re.findall(r"--([a-z-]+)=", container["args"]))
    assert given == {"project", "region", "template", "job-name", "worker-account", "staging", "parameter"}


def test_what_the_check_is_given_are_parameters_of_the_template(blocks: dict[str, list[Any]]) -> None:
    (given,) = (block["parameters"] for block in blocks["locals"] if "parameters" in block)
    names = set(re.findall(r"(\w+) *= ", given))
    options = vars(parser(["run"]).parse_args(["run", "--profile=p", "--clips=c", "--output=o"]))
    assert {"profile", "clips", "output", "models", "preset", "sdk_container_image"} == names
    assert names - {"sdk_container_image"} <= set(options)  # which is Beam's


def test_alerts_tell_of_failed_and_overlong_runs_and_of_money(resources: dict[str, dict[str, Any]]) -> None:
    alerts = {name: body for name, body in resources.items() if name.startswith("google_monitoring_alert_policy")}
    said = "\n".join(strings(list(alerts.values())))
    for wanted in ("job/is_failed", "job/elapsed_time", "completed_execution_count", "cloud_scheduler_job"):
        assert wanted in said
    channel = "${google_monitoring_notification_channel.email.id}"
    assert all(body["notification_channels"] == [channel] for body in alerts.values())
    budget = resources["google_billing_budget.monthly"]
    assert budget["all_updates_rule"][0]["monitoring_notification_channels"] == [channel]


def test_the_example_sets_variables_that_there_are_and_all_that_have_no_default(blocks: dict[str, list[Any]]) -> None:
    variables = {name: body for block in blocks["variable"] for name, body in block.items()}
    with (FOLDER / "terraform.tfvars.example").open(encoding="utf-8") as file:
        example = _plain(hcl2.load(file))
    assert set(example) <= set(variables)
    assert {name for name, body in variables.items() if "default" not in body} <= set(example)
    assert all(body["description"] for body in variables.values())
