"""`harness card`: write the model card of a training run; put the model on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import InputError

README = "README.md"


def write_card(
    run: Path, beside: Path | None = None, output: Path | None = None, push: str = "", public: bool = False
) -> int:
    """Write a README.md about a model: recipe, data with hashes, lineage, and its evaluations with intervals.

    Args:
        run: directory of a training run.
        beside: folder below which the runs it was made from and the evaluations of its checkpoints are looked for;
            default is the folder that the run lies in.
        output: the file; default is README.md in the run's `hf` directory, else in the run.
        push: name on the model hub, OWNER/NAME: the `hf` directory is uploaded with the card. The token is that of
            `hf auth login` or in HF_TOKEN, the hub another one where HF_ENDPOINT names it.
        public: let everybody see a repository that is made by --push.
    """
    from harness.models.checkpoints import check_checkpoint
    from harness.report.card import MARK, card
    from harness.store import SUMS, check_sums, write_bytes, write_sums

    exported = run / "hf"
    if push:
        if push.count("/") != 1 or not all(push.split("/")):
            raise InputError(f"--push '{push}': is no name on the hub; write OWNER/NAME.")
        if output is not None:
            raise InputError("--push uploads the card in the run's `hf` directory; leave out --output.")
        if not exported.is_dir():
            raise InputError(f"{exported}: no such directory; --push uploads what HFCheckpoint exports there.")
        check_checkpoint(exported)
    path = output or (exported if exported.is_dir() else run) / README
    text = card(run, beside or run.resolve().parent)
    if path.is_file() and MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{path}: was not written by this command; move it away, or choose another --output.")
    summed = (path.parent / SUMS).is_file()
    if summed:
        check_sums(path.parent)
    write_bytes(path, text.encode())
    if summed:
        write_sums(path.parent)
    print(path)
    if push:
        print(upload(exported, push, public))
    return 0


def upload(folder: Path, name: str, public: bool) -> str:
    """Upload a checkpoint directory; its address.

    Raises:
        InputError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi

    from harness.errors import first_line

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        hub.create_repo(name, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload model and card")
    except Exception as error:  # whatever the hub's client raises: no token, no right, no network
        raise InputError(f"--push {name}: the hub refuses or cannot be reached ({first_line(error)}).") from None
    return f"{hub.endpoint}/{name}"
