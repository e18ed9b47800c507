"""Evaluations whose samples come from a real vLLM server, behind a relay that is busy or breaks down at times."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from harness.cli.main import guarded
from harness.commands.evaluate import eval_tasks
from harness.engines import EngineConfig
from harness.evals.samples import LOG, SAMPLES, read_samples
from harness.store import read_jsonl
from tests.engines.conftest import checkpoint  # noqa: F401 - a fixture
from tests.engines.test_http import SECRET, server_url  # noqa: F401

PROBLEMS = 12


@contextlib.contextmanager
def relay(target: str, status: Callable[[int], int]) -> Iterator[tuple[str, list[int]]]:
    """Passes requests on; the completion of number i (from 0) is answered by `status(i)` where that is not 200."""
    answered: list[int] = []
    lock = threading.Lock()

    class Relay(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code = 200
            if self.path.endswith("/completions"):
                with lock:
                    code = status(len(answered))
                    answered.append(code)
            content = b'{"error": {"message": "no"}}'
            if code == 200:
                headers = {"Authorization": self.headers.get("Authorization", ""), "Content-Type": "application/json"}
                reply = httpx.request(self.command, target + self.path, content=body, headers=headers, timeout=60)
                code, content = reply.status_code, reply.content
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = pass_on

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", answered
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.vllm
@pytest.mark.slow
def test_a_server_that_is_busy_or_breaks_down_costs_no_sample_and_no_secret(
    server_url: str,  # noqa: F811
    checkpoint: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("HARNESS_API_KEY", SECRET)
    task = tmp_path / "sums.jsonl"
    task.write_text("".join(json.dumps({"question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(PROBLEMS)))

    def evaluate(url: str, output: Path, connections: int = 4) -> dict:
        engine = EngineConfig(kind=url, dtype="float32", max_num_seqs=connections)
        eval_tasks(str(task), str(checkpoint), engine, "plain", n=2, max_tokens=12, output=output, export="inspect")
        return json.loads((output / "results.json").read_text())

    whole = evaluate(server_url, tmp_path / "whole")
    with relay(server_url, lambda i: 503 if i % 3 == 0 else 200) as (url, answered):
        busy = evaluate(url, tmp_path / "busy")
        assert answered.count(503) >= PROBLEMS / 3
        assert answered.count(200) == PROBLEMS
    with relay(server_url, lambda i: 200 if i < 5 else 400) as (url, _):
        assert guarded(lambda: bool(evaluate(url, tmp_path / "broken", connections=1))) == 1
    kept = sum(1 for _ in read_jsonl(tmp_path / "broken" / LOG))
    assert kept == 10
    with relay(server_url, lambda i: 200) as (url, answered):
        broken = evaluate(url, tmp_path / "broken")
        assert len(answered) == PROBLEMS - kept / 2
    for results in (whole, busy, broken):
        results.pop("git_commit")
        results.pop("sha256")  # of all the rest, the server's address among it
        assert results.pop("engine").startswith("server 127.0.0.1:")
        for key in ("engine", "output"):
            results["config"].pop(key)
    assert whole == busy == broken
    drawn = {
        name: [s.response.token_ids for s in read_samples(tmp_path / name)] for name in ("whole", "busy", "broken")
    }
    assert drawn["whole"] == drawn["busy"] == drawn["broken"]
    assert all(drawn["whole"])

    printed = capfd.readouterr()
    [sentence] = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert "HTTP 400, no" in sentence
    assert SECRET not in printed.out + printed.err
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == SAMPLES for path in written)
    for path in written:
        content = (
            b"".join(json.dumps(row).encode() for _, row in read_jsonl(path))
            if path.suffix == ".gz"
            else path.read_bytes()
        )
        assert SECRET.encode() not in content, path
