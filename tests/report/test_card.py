"""Model cards, and their way to a model hub that runs on this machine."""

from __future__ import annotations

import base64
import http.server
import json
import shutil
import threading

import pytest
import yaml

from harness.commands.card import write_card
from harness.errors import InputError
from harness.evals.samples import read_results
from harness.store import check_sums, write_sums


@pytest.fixture
def run_dir(models, tmp_path):
    """The training run `better` of the three models, with an exported model in it; its evaluation lies below it."""
    shutil.copytree(models, tmp_path / "runs")
    exported = tmp_path / "runs/better/hf"
    exported.mkdir()
    (exported / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (exported / "tokenizer.json").write_text("{}")
    write_sums(exported)
    return tmp_path / "runs/better"


def test_a_card_says_what_was_measured_on_which_data_from_which_checkpoint(run_dir):
    assert write_card(run_dir) == 0
    text = (run_dir / "hf/README.md").read_text()
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    accuracy = read_results(run_dir / "sums")["metrics"]["accuracy"]
    metadata = yaml.safe_load(head)
    [result] = metadata["model-index"][0]["results"]
    assert result["dataset"]["name"] == "sums"
    assert result["metrics"] == [{"type": "accuracy", "value": accuracy["value"]}]
    interval = f"{accuracy['value']:.4f} | {accuracy['low']:.4f} to {accuracy['high']:.4f}"
    assert f"| sums | accuracy | {interval} | 60 × 1 | test |" in body
    assert body.count("| sums | accuracy |") == 1  # of this model, not of its neighbours
    assert "| better | `data/rows.jsonl` | `0123456789abcdef` |" in body
    assert "1. `base/hf`\n2. `better` (step 60)" in body
    assert "checkpoint: base/hf" in body
    check_sums(run_dir / "hf")  # the card is one of the directory's files now
    assert write_card(run_dir) == 0
    assert (run_dir / "hf/README.md").read_text() == text


def test_what_a_card_cannot_be_written_of_is_one_sentence(run_dir, tmp_path):
    with pytest.raises(InputError, match="holds no training run"):
        write_card(run_dir / "sums")
    (run_dir / "hf/README.md").write_text("# mine\n")
    with pytest.raises(InputError, match="was not written by this command"):
        write_card(run_dir)
    assert write_card(run_dir, output=tmp_path / "card.md") == 0
    with pytest.raises(InputError, match="is no name on the hub"):
        write_card(run_dir, push="mine")
    with pytest.raises(InputError, match="leave out --output"):
        write_card(run_dir, push="me/mine", output=tmp_path / "card.md")
    (run_dir / "hf").rename(run_dir / "away")
    with pytest.raises(InputError, match="what HFCheckpoint exports there"):
        write_card(run_dir, push="me/mine")


class Hub(http.server.BaseHTTPRequestHandler):
    """Enough of a model hub to take one commit of small files; refuses who has no token."""

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.answer(401, {"error": "Invalid user token"})
            return
        self.answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": [], "private": True, "tags": []})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub = self.server
        if self.headers.get("Authorization") != "Bearer hf_test":
            self.answer(401, {"error": "Invalid user token"})
        elif self.path == "/api/repos/create":
            hub.made.append(json.loads(body))
            self.answer(200, {"url": f"{hub.address}/me/mine"})
        elif self.path == "/api/validate-yaml":
            hub.made.append(json.loads(body))
            self.answer(200, {"errors": [], "warnings": []})
        elif self.path.startswith("/api/models/me/mine/preupload/"):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files]
            self.answer(200, {"files": modes})
        elif self.path.startswith("/api/models/me/mine/commit/"):
            lines = [json.loads(line) for line in body.splitlines()]
            hub.files |= {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            self.answer(200, {"success": True, "commitOid": "1" * 40, "commitUrl": f"{hub.address}/me/mine/commit/1"})
        else:
            self.answer(404, {"error": "not found"})


@pytest.fixture
def hub(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.made, server.files = [], {}
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield server
        server.shutdown()
        thread.join()


def test_the_model_goes_to_the_hub_with_its_card(run_dir, hub, capsys):
    assert write_card(run_dir, push="me/mine") == 0
    made, validated = hub.made
    assert validated["content"] == (run_dir / "hf/README.md").read_text()
    assert (made["name"], made["organization"], made["visibility"]) == ("mine", "me", "private")
    assert hub.files["README.md"] == (run_dir / "hf/README.md").read_bytes()
    assert hub.files["config.json"] == (run_dir / "hf/config.json").read_bytes()
    assert hub.files.keys() == {"README.md", "config.json", "tokenizer.json", "SHA256SUMS"}
    assert f"{hub.address}/me/mine" in capsys.readouterr().out


def test_a_hub_that_refuses_is_one_sentence(run_dir, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(InputError, match=r"--push me/mine: the hub refuses or cannot be reached \(.*401"):
        write_card(run_dir, push="me/mine")
    assert hub.files == {}
