"""A provider's key is where it is needed, and nowhere else."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.cloud import secretmanager
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from model_handlers import provider
from model_handlers.api_writer import ApiWriter
from model_handlers.pace import Dialect
from model_handlers.weights import ModelError
from tests.asking import brief, writer
from tests.llm_server import llm_server

KEY = "sk-proj-Zq81Lm0Pw7Tn5Rb2"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EARSHOT_TEST_KEY", KEY)
    return KEY


def test_the_key_is_sent_and_nothing_else_shows_it(key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with llm_server() as server:
        told = writer(server, key_env="EARSHOT_TEST_KEY")
        connection = told.load()
        drafts = told.write([brief()], connection)
        assert server.keys == [key]
    shown = [repr(told), str(told.facts()), told.fingerprint(), repr(connection), repr(connection.secret)]
    shown += [repr(vars(connection)), repr(drafts), caplog.text, str(pickle.dumps(told)), repr(vars(told))]
    for text in shown:
        assert key not in text
    with pytest.raises(TypeError):
        pickle.dumps(connection.secret)


@pytest.mark.parametrize("fault", ["401", "403"])
def test_no_message_shows_the_key_or_part_of_it(fault: str, key: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with llm_server(script=[fault]) as server:
        told = writer(server, key_env="EARSHOT_TEST_KEY")
        with pytest.raises(ModelError) as caught:
            told.write([brief()], told.load())
    said = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert key not in said
    assert "sk-" not in said
    assert "wxyz" not in said
    assert "(key)" in str(caught.value)


def test_a_server_that_answers_with_the_key_does_not_get_it_into_the_records(key: str) -> None:
    told = ApiWriter(model="any", key_env="EARSHOT_TEST_KEY")
    secret = provider.read_key("EARSHOT_TEST_KEY", "")
    question = told.question(brief(), Dialect("none"))
    for content in (json.dumps({"caption": f"Say {key}.", "events": [], "abstained": ""}), f"no JSON but {key}"):
        answer = {"choices": [{"message": {"content": content}}]}
        assert key not in repr(told.read(answer, question, secret))


def test_a_missing_key_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelError, match=r"OPENAI_API_KEY is empty here; set it .*key_secret.*key_env = \"\""):
        ApiWriter(model="any").load()


def test_a_key_that_is_none_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_TEST_KEY", "sk-abc\nHost: evil")
    with pytest.raises(ModelError, match="holds what no key holds") as caught:
        ApiWriter(model="any", key_env="EARSHOT_TEST_KEY").load()
    assert "abc" not in str(caught.value)


@contextmanager
def secret_manager(secrets: dict[str, bytes]) -> Iterator[Any]:
    """A real gRPC server that answers as Secret Manager does; gives a client of it."""
    answer = secretmanager.AccessSecretVersionResponse

    def access(request: Any, context: Any) -> Any:
        if request.name not in secrets:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Secret [{request.name}] not found")
        return answer(name=request.name, payload={"data": secrets[request.name]})

    handler = grpc.unary_unary_rpc_method_handler(
        access, secretmanager.AccessSecretVersionRequest.deserialize, answer.serialize
    )
    service = "google.cloud.secretmanager.v1.SecretManagerService"
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"AccessSecretVersion": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        transport = SecretManagerServiceGrpcTransport(channel=channel)
        yield secretmanager.SecretManagerServiceClient(transport=transport)
    finally:
        server.stop(None)


def test_the_key_may_lie_in_secret_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "projects/p/secrets/openai/versions/3"
    with secret_manager({name: KEY.encode() + b"\n"}) as client, llm_server() as server:
        monkeypatch.setattr(provider, "secret_client", lambda: client)
        told = writer(server, key_secret=name)
        told.write([brief()], told.load())
        assert server.keys == [KEY]
        with pytest.raises(ModelError, match=r"key_secret projects/p/secrets/no/versions/1: .*not found"):
            writer(server, key_secret="projects/p/secrets/no/versions/1").load()
