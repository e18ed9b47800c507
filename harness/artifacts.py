"""What was made from what, as artifacts of Weights & Biases that are named by their contents.

An artifact holds hashes, not the files: weights by the fingerprint that evaluations and rollouts carry too, files by
their SHA-256. So whoever makes something and whoever uses it name the same artifact, in different runs and without
asking the server, and nothing of the data leaves the machine. Where it lies stands in the artifact's metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["weights", "data", "rollouts", "evaluation"]
TYPES: Mapping[Kind, str] = {
    "weights": "model",
    "data": "dataset",
    "rollouts": "rollouts",
    "evaluation": "evaluation",
}
"""What Weights & Biases calls each kind."""
DIGITS = 16
"""Of a hash in a name."""


def artifact_name(kind: Kind, content: str) -> str:
    """The name of the artifact with that content: a hash, or what stands for one."""
    return f"{kind}-{re.sub(r'[^A-Za-z0-9]', '-', content)[:DIGITS]}"


def log_artifact(run: Any, kind: Kind, content: str, about: Mapping[str, Any]) -> str:
    """Say that a run made something; return the artifact's name.

    Args:
        run: of wandb.
        content: hash of what was made.
        about: metadata, such as where it lies and what it was made from.
    """
    artifact = _artifact(kind, content, about)
    run.log_artifact(artifact)
    return artifact.name


def use_artifact(run: Any, kind: Kind, content: str, about: Mapping[str, Any]) -> str:
    """Say that a run was given something; return the artifact's name.

    What `Run.use_artifact` writes for an artifact that is not known to the server yet; itself it waits for the server,
    and refuses to write anything offline.
    """
    artifact = _artifact(kind, content, about)
    run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    return artifact.name


def _artifact(kind: Kind, content: str, about: Mapping[str, Any]) -> Any:
    from wandb import Artifact

    artifact = Artifact(artifact_name(kind, content), TYPES[kind], metadata=dict(about))
    with artifact.new_file("content.json") as file:
        json.dump({kind: content}, file)
    return artifact
