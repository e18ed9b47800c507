"""A real vLLM server on this machine, and the answers of servers that are absent, busy or unwilling."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from harness.engines import (
    EngineConfig,
    EngineError,
    ServerEngine,
    StaleEngineError,
    generate,
    open_engine,
    verify_sync,
)
from harness.errors import InputError
from harness.models.checkpoints import load_tokenizer
from harness.models.weights import named_weights
from harness.types import GenerationRequest, SamplingConfig
from tests.conftest import build_tiny_tokenizer
from tests.engines.conftest import (
    CONTEXT,
    build_model,
    build_tokenizer,
    drain,
    need_vllm,
    prompt,
    reference_greedy,
    sample,
)
from tests.engines.test_isolation import free_port

SECRET = "a-token-that-must-not-leak"


@contextlib.contextmanager
def vllm_server(checkpoint: Path, log: Path, **environment: str) -> Iterator[str]:
    """The URL of a server process of vLLM's, with `SECRET` as its key."""
    need_vllm()
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    command += ["--kv-cache-memory-bytes", str(64 * 2**20), "--api-key", SECRET, "--served-model-name", "tiny"]
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **environment}
        )
    try:
        deadline = time.monotonic() + 600
        while not healthy(port):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        # A server that is killed leaves its children behind, so end the whole group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server_url(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllm_server(checkpoint, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.vllm
@pytest.mark.slow
def test_a_vllm_server_gives_the_results_of_vllm_in_process(
    server_url: str, checkpoint: Path, vllm_engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with pytest.raises(InputError, match="HTTP 401"):
        open_engine(checkpoint, EngineConfig(kind=server_url))
    monkeypatch.setenv("HARNESS_API_KEY", SECRET)
    server = open_engine(checkpoint, EngineConfig(kind=server_url, dtype="float32"))
    assert isinstance(server, ServerEngine)
    build_tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"tokenises otherwise than {tmp_path}"):
        open_engine(tmp_path, EngineConfig(kind=server_url))
    with pytest.raises(InputError, match=r"does not take weights \(HTTP 404\): start it with VLLM_SERVER_DEV_MODE=1"):
        open_engine(checkpoint, EngineConfig(kind=server_url, weights_folder=str(tmp_path / "weights")))
    assert server.max_context == CONTEXT
    assert SECRET not in repr(vars(server)) + server.name
    settings = [
        SamplingConfig(temperature=0.0, max_tokens=12),
        SamplingConfig(temperature=0.0, max_tokens=12, n=2),
        SamplingConfig(n=3, seed=5, max_tokens=12),
        SamplingConfig(n=2, seed=5, max_tokens=30, temperature=2.0, top_k=30, top_p=0.95),
        SamplingConfig(seed=8, max_tokens=300, temperature=2.0),
        SamplingConfig(n=8, seed=8, max_tokens=60, stop=("e",), step_stop=("a", "x", "q")),
    ]
    requests = [
        GenerationRequest(f"{i}/{n}", prompt(n), sampling) for n in (4, 200) for i, sampling in enumerate(settings)
    ]
    theirs = {result.key: result.completions for result in generate(server, requests)}
    ours = {result.key: result.completions for result in generate(vllm_engine, requests)}
    for key in ours:
        for mine, other in zip(ours[key], theirs[key], strict=True):
            assert (mine.text, mine.token_ids, mine.finish_reason) == (other.text, other.token_ids, other.finish_reason)
            assert mine.logp == pytest.approx(other.logp, abs=1e-4)
    reasons = {completion.finish_reason for completions in theirs.values() for completion in completions}
    assert reasons == {"stop", "length", "step"}
    with pytest.raises(InputError, match="leaves no room"):
        server.submit(GenerationRequest("long", prompt(CONTEXT), SamplingConfig()))
    with pytest.raises(EngineError, match="cannot be replaced"):
        server.sync([], "new")
    server.close()


@pytest.mark.vllm
@pytest.mark.slow
def test_servers_take_new_weights_and_one_with_others_is_not_believed(
    untied_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("HARNESS_API_KEY", SECRET)
    folder, prompts = tmp_path / "weights", [prompt(20), prompt(40, 1), prompt(60, 2)]
    with vllm_server(untied_checkpoint, tmp_path / "log", VLLM_SERVER_DEV_MODE="1") as url:
        both = [url, url.replace("127.0.0.1", "localhost")]  # one process stands for two
        engine = open_engine(untied_checkpoint, EngineConfig(kind=both, dtype="float32", weights_folder=str(folder)))
        proof = None
        for seed in (1, 2):
            model = build_model(tied=False, seed=seed)
            engine.sync(named_weights(model), f"seed {seed}")
            proof = verify_sync(engine, model, prompts, f"seed {seed}", before=proof)
            assert proof.max_error < 1e-4
            for ids in prompts:
                [found] = sample(engine, ids, temperature=0.0, max_tokens=12)
                assert found.token_ids == reference_greedy(model, ids, 12, build_tokenizer().eos_token_id)
        assert list(folder.iterdir()) == []
        engine.version = "seed 3"
        with pytest.raises(StaleEngineError, match="differ from the training model's"):
            verify_sync(engine, build_model(tied=False, seed=3), prompts, "seed 3", before=proof)
        with pytest.raises(EngineError, match="no parameter 'lm_head'"):
            engine.sync([("lm_head", torch.zeros(1))], "wrong")
        renamed = httpx.post(
            f"{url}/update_weight_version",
            json={"new_version": "default"},  # as a server has it that was started again
            headers={"Authorization": f"Bearer {SECRET}"},
        )
        assert renamed.status_code == 200
        with pytest.raises(EngineError, match="holds the weights 'default' and not those that it was given"):
            sample(engine, prompts[0], max_tokens=4)
        assert "The other servers draw its samples." in caplog.text
        engine.close()
    with pytest.raises(InputError, match="weights_folder is for servers; this is vllm"):
        EngineConfig(kind="vllm", weights_folder=str(folder))


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers each POST with the next (status, body) of `answers`; lists one model whose owner is not vLLM."""

    answers: list[tuple[int, dict[str, Any]]]
    received: list[dict[str, Any]]
    model = "other"
    down = False

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": self.model, "owned_by": "somebody"}]})

    def do_POST(self) -> None:
        if self.down:
            return
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(*self.answers.pop(0))

    def reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def text_answer(text: str, reason: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"index": 0, "text": text, "finish_reason": reason, "logprobs": {"token_logprobs": [-0.5, -0.25]}}]
    }


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[Scripted]]]:
    yield from serve()


def serve() -> Iterator[tuple[str, type[Scripted]]]:
    handler = type("Handler", (Scripted,), {"answers": [], "received": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()
    server.server_close()


def open_scripted(url: str, checkpoint: Path) -> ServerEngine:
    return ServerEngine(checkpoint, EngineConfig(kind=url, max_model_len=100, max_retries=2, max_num_seqs=1))


def test_a_busy_server_is_asked_again(scripted: Any, checkpoint: Path):
    url, handler = scripted
    handler.answers += [(503, {}), (429, {"error": {"message": "slow down"}}), (200, text_answer("four"))]
    engine = open_scripted(url, checkpoint)
    [found] = sample(engine, prompt(4), temperature=0.0, max_tokens=1000)
    assert (found.text, found.token_ids, found.logp, found.finish_reason) == ("four", (), -0.75, "stop")
    assert len(handler.received) == 3
    assert handler.received[-1]["max_tokens"] == 96
    assert handler.received[-1]["prompt"] == list(prompt(4))
    engine.close()


@pytest.fixture
def second() -> Iterator[tuple[str, type[Scripted]]]:
    yield from serve()


def test_the_least_loaded_of_several_servers_is_asked_and_a_lost_ones_requests_go_to_the_others(
    scripted: Any, second: Any, checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("harness.engines.http.FIRST_PAUSE", 0.01)
    urls = [scripted[0], second[0]]
    servers = open_engine(checkpoint, EngineConfig(kind=urls, max_model_len=100, max_retries=1, max_num_seqs=8))
    assert servers.name == f"server {urls[0][7:-3]} (other), {urls[1][7:-3]}"
    for _, handler in (scripted, second):
        handler.answers += [(200, text_answer("a"))] * 3
    requests = [GenerationRequest(str(i), prompt(4), SamplingConfig(temperature=0.0, max_tokens=5)) for i in range(6)]
    assert {result.key for result in generate(servers, requests)} == set("012345")
    assert [len(handler.received) for _, handler in (scripted, second)] == [3, 3]
    second[1].down = True
    scripted[1].answers += [(200, text_answer("b"))] * 6
    assert {result.completions[0].text for result in generate(servers, requests)} == {"b"}
    assert len(scripted[1].received) == 9
    assert caplog.text.count("The other servers draw its samples.") == 1
    scripted[1].down = True
    with pytest.raises(EngineError, match=r"gave no answer \(RemoteProtocolError after 2 attempts\)"):
        list(generate(servers, requests[:1]))
    with pytest.raises(EngineError, match="weights of servers cannot be replaced"):
        servers.sync([], "new")
    servers.close()


def test_servers_of_different_models_and_lists_of_other_things_are_refused(
    scripted: Any, second: Any, checkpoint: Path
):
    second[1].model = "another"
    with pytest.raises(InputError, match="serve different models; give servers of one"):
        open_engine(checkpoint, EngineConfig(kind=[scripted[0], second[0]], max_model_len=100))
    for kind in ([], ["vllm"], [scripted[0], "vllm"]):
        with pytest.raises(InputError, match=r"unknown engine .*give auto, vllm, transformers, ray or http\(s\) URLs"):
            EngineConfig(kind=kind)


def test_samples_of_a_server_that_is_not_vllm_are_asked_for_one_by_one(scripted: Any, checkpoint: Path):
    url, handler = scripted
    handler.answers += [(200, text_answer("a")), (200, text_answer("b", "length")), (200, text_answer("c"))]
    engine = open_scripted(url, checkpoint)
    found = sample(engine, prompt(4), n=3, seed=20, max_tokens=5, stop=("\n",))
    assert [c.text for c in found] == ["a", "b", "c"]
    assert [c.finish_reason for c in found] == ["stop", "length", "stop"]
    assert [body["seed"] for body in handler.received] == [20, 21, 22]
    assert all(body["n"] == 1 and body["stop"] == ["\n"] and "top_k" not in body for body in handler.received)
    with pytest.raises(InputError, match="at most 4 stop strings"):
        engine.submit(GenerationRequest("stops", prompt(3), SamplingConfig(stop=("a", "b", "c", "d", "e"))))
    with pytest.raises(InputError, match="cannot sample step by step"):
        engine.submit(GenerationRequest("steps", prompt(3), SamplingConfig(step_stop=("\n",))))
    engine.close()


def test_one_refused_request_is_named_and_the_others_are_answered(
    scripted: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HARNESS_API_KEY", SECRET)
    url, handler = scripted
    handler.answers += [(400, {"error": {"message": "no such\nthing."}}), (200, text_answer("fine"))]
    engine = open_scripted(url, checkpoint)
    engine.submit(GenerationRequest("bad", prompt(4), SamplingConfig(temperature=0.0)))
    engine.submit(GenerationRequest("good", prompt(5), SamplingConfig(temperature=0.0)))
    found = {}

    def poll() -> None:
        while engine.num_pending:  # the good one may be answered before the bad one is asked after
            found.update({result.key: result.completions for result in engine.poll()})

    with pytest.raises(EngineError, match=r"request 'bad': .* refused it: HTTP 400, no such thing\.") as raised:
        poll()
    assert SECRET not in str(raised.value)
    found |= drain(engine)
    assert [c.text for c in found["good"]] == ["fine"]
    engine.close()


def test_an_absent_server_an_unknown_model_and_an_unknown_context_are_refused(scripted: Any, checkpoint: Path):
    with pytest.raises(InputError, match=r"no server answers at 127.0.0.1:\d+ \(ConnectError\)"):
        open_engine(checkpoint, EngineConfig(kind=f"http://user:secret@127.0.0.1:{free_port()}"))
    url, _ = scripted
    with pytest.raises(InputError, match="does not offer model 'mine'; set model_name to one of: other"):
        open_engine(checkpoint, EngineConfig(kind=url, model_name="mine"))
    with pytest.raises(InputError, match="set max_model_len"):
        open_engine(checkpoint, EngineConfig(kind=url))


def test_only_the_tokenizer_of_a_servers_checkpoint_is_needed(scripted: Any, tmp_path: Path):
    build_tokenizer().save_pretrained(tmp_path)
    url, _ = scripted
    open_scripted(url, tmp_path).close()


# ---- servers that are hostile or broken


class Hostile(Scripted):
    """Sends the bytes of `model_list` and `completion` as they are, or what they yield."""

    model_list: Any = json.dumps({"data": [{"id": "other", "owned_by": "vllm", "max_model_len": 100}]}).encode()
    completion: Any = b""
    tokens: Any = None
    """What `/tokenize` answers; None where there is no such path."""

    def do_GET(self) -> None:
        self.send(self.model_list)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/tokenize" and self.tokens is None:
            self.send_error(404)
        else:
            self.send(self.tokens(body) if self.path == "/tokenize" else self.completion)

    def send(self, content: Any) -> None:
        with contextlib.suppress(OSError):
            if callable(content):
                content(self.wfile)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)


@pytest.fixture
def hostile() -> Iterator[tuple[str, type[Hostile]]]:
    handler = type("Handler", (Hostile,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()
    server.server_close()


def endless(wfile: Any) -> None:
    wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        wfile.write(b"[" * (1 << 20))


def slow_body(wfile: Any) -> None:
    wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        wfile.write(b"[")
        time.sleep(0.05)


def slow_head(wfile: Any) -> None:
    wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        wfile.write(b"x")
        time.sleep(0.05)


def broken(**fields: Any) -> bytes:
    choice = {"index": 0, "text": "a", "finish_reason": "stop", "logprobs": None, "token_ids": [1]}
    return json.dumps({"choices": [choice | fields]}).encode()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", "no JSON"),
        (b"[" * 200_000, "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[1]", "the answer is of type list and no object"),
        (b"{}", "'choices' is missing"),
        (b'{"choices": null}', "'choices' is null"),
        (b'{"choices": [1]}', "a choice is of type int"),
        (b'{"choices": []}', "0 samples instead of 1"),
        (broken(index=7), r"samples numbered \[7\]"),
        (broken(index=True), "'index' is of type bool"),
        (broken(text=None), "'text' is null"),
        (broken(finish_reason=3), "'finish_reason' is of type int"),
        (broken(token_ids=[1] * 100_000), "100000 tokens instead of at most 8"),
        (broken(token_ids=[-5]), "token id -5"),
        (broken(token_ids=[10**9]), "token id 1000000000"),
        (broken(token_ids=[1.5]), "token id 1.5"),
        (broken(token_ids=["\x1b"]), r"token id '\\x1b'"),
        (broken(logprobs={"token_logprobs": ["-1"]}), "log-probability '-1'"),
        (broken(logprobs={"token_logprobs": [float("nan")]}), "log-probability nan"),
        (broken(logprobs={"token_logprobs": [-(10**400)]}), "log-probability -1000"),
        (broken(logprobs=[1]), "'logprobs' is of type list"),
        (broken(stop_reason=[1]), r"stop_reason is \[1\]"),
        (endless, "more than 64 MiB"),
    ],
)
def test_an_answer_of_another_form_is_an_error_that_says_what_is_wrong(
    hostile: Any, checkpoint: Path, answer: Any, message: str
):
    url, handler = hostile
    handler.completion = answer if not callable(answer) else staticmethod(answer)
    engine = open_scripted(url, checkpoint)
    with pytest.raises(EngineError, match=f"request '.*': server .* that is not the API's \\({message}"):
        sample(engine, prompt(4), max_tokens=8)
    engine.close()


def test_a_server_with_another_tokenizer_is_refused_when_it_is_opened(hostile: Any, checkpoint: Path, caplog: Any):
    url, handler = hostile
    tokenizer = load_tokenizer(checkpoint)

    def ids(body: dict[str, Any], change: int = 0) -> bytes:
        assert (body["model"], body["add_special_tokens"]) == ("other", False)
        found = tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
        return json.dumps({"tokens": [*found[:5], found[5] + change, *found[6:]]}).encode()

    handler.tokens = staticmethod(ids)
    open_scripted(url, checkpoint).close()
    assert not caplog.text
    handler.tokens = staticmethod(lambda body: ids(body, 1))
    with pytest.raises(
        InputError, match=rf"tokenises otherwise than {checkpoint}: token 5 of a text of \d+ is \d+, not"
    ):
        open_scripted(url, checkpoint)
    handler.tokens = staticmethod(lambda body: b'{"tokens": [-1]}')
    with pytest.raises(InputError, match=r"tokenises in a form that is not the API's \(token id -1\)"):
        open_scripted(url, checkpoint)
    handler.tokens = None
    open_scripted(url, checkpoint).close()
    assert "does not say how it tokenises, so that is not compared" in caplog.text


@pytest.mark.parametrize("answer", [slow_body, slow_head])
def test_the_whole_answer_has_one_deadline(hostile: Any, checkpoint: Path, answer: Any):
    url, handler = hostile
    handler.completion = staticmethod(answer)
    engine = ServerEngine(checkpoint, EngineConfig(kind=url, max_retries=0, max_num_seqs=1, timeout=2.0))
    with pytest.raises(EngineError, match=r"gave no answer \(ReadTimeout after 1 attempts\)"):
        sample(engine, prompt(4), max_tokens=8)  # the answer has no end
    engine.close()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", r"lists its models in a form that is not the API's \(no JSON\)"),
        (b'{"data": [{}]}', "'id' is missing"),
        (b'{"data": [{"id": "a", "max_model_len": "128"}]}', "'max_model_len' is of type str"),
        (b'{"data": [{"id": "a", "max_model_len": -1}]}', "max_model_len is -1"),
        (b'{"data": [{"id": "a\\u001b]0;x\\u0007"}, {"id": "b"}]}', r"one of: a\\x1b\]0;x\\x07, b"),
        (endless, "more than 64 MiB"),
    ],
)
def test_a_list_of_models_of_another_form_is_one_sentence(hostile: Any, checkpoint: Path, answer: Any, message: str):
    url, handler = hostile
    handler.model_list = answer if not callable(answer) else staticmethod(answer)
    with pytest.raises(InputError, match=message):
        open_scripted(url, checkpoint)


def test_names_hold_no_control_characters(hostile: Any, checkpoint: Path):
    url, handler = hostile
    handler.model_list = b'{"data": [{"id": "a\\u001b]0;pwned\\u0007"}]}'
    engine = open_scripted(url, checkpoint)
    assert (engine.name + engine.version).isprintable()
    engine.close()
