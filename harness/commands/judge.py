"""`harness judge`."""

from __future__ import annotations

from pathlib import Path

from harness.engines.config import EngineConfig
from harness.errors import InputError


def judge_evaluations(
    folder: Path, model: str, engine: EngineConfig = EngineConfig(), max_tokens: int = 8, show: int = 10
) -> int:
    """Ask a model about the answers of a finished evaluation that the rules could not decide; print both numbers.

    The evaluation stays as it is. Replies are kept in `judge.jsonl` and the numbers in `judged.json` beside it.

    Args:
        folder: output folder of an evaluation, or a folder of several.
        model: checkpoint directory or hub name of the judge, a chat model; for a server its tokenizer.
        engine: which engine it runs in.
        max_tokens: longest reply; raise it for a judge that thinks first.
        show: print at most so many of the answers that the judge calls right.
    """
    from harness.engines import open_engine
    from harness.evals.compare import evaluation_folders
    from harness.evals.judge import JUDGED, judge
    from harness.models.checkpoints import load_tokenizer

    folders = evaluation_folders(folder)
    tokenizer = load_tokenizer(model)
    if not tokenizer.chat_template:
        raise InputError(f"{model}: a judge is asked in a chat, and its tokenizer has no chat template; give another.")
    opened = open_engine(model, engine)
    try:
        for task, path in folders.items():
            found = judge(path, opened, tokenizer, model, max_tokens)
            rules, both = found["accuracy"], found["accuracy_with_judge"]
            print(
                f"{task}: by rules {rules['value']:.4f} [{rules['low']:.4f}, {rules['high']:.4f}], with the judge "
                f"{both['value']:.4f} [{both['low']:.4f}, {both['high']:.4f}], {found['difference']:+.4f}; asked about "
                f"{found['asked']} answers"
            )
            for rule, labels in found["labels"].items():
                print(f"  {rule}: {', '.join(f'{count} {label}' for label, count in labels.items())}")
            for row in found["rescued"][:show]:
                print(f"  called right: {row['problem']}: {row['answer']!r} for {row['gold']!r}")
            print(f"  {path / JUDGED}", flush=True)
    finally:
        opened.close()
    return 0
