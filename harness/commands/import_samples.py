"""`harness import`: other programs' samples as an evaluation of ours."""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError


def import_samples(
    files: list[Path],
    output: Path,
    task: str = "",
    protocol: str = "",
    grader: str = "",
    model: str = "",
    data_dir: Path | None = None,
) -> int:
    """Read the samples of other programs, grade them again, and write them as `harness eval` does.

    Reads what lm-evaluation-harness (`samples_*.jsonl`, by --log_samples), lighteval (details, `.parquet`), Inspect
    (logs, `.eval` or `.json`) and NeMo-Skills (`output*.jsonl`) write, and rows with a response and a gold answer. The
    result is compared with others by `harness compare` and shown by `harness report`.

    Args:
        files: of one run of one task; several samples of a problem may lie in one file or in several.
        output: directory of the evaluation; it must not hold one.
        task: the task whose rows were asked (see `harness tasks`): its problems, golds and ids are taken, matched by
            their questions, so that the samples compare with ours. Default takes the problems from the files.
        protocol: prompt template, by name or as a YAML file, by whose rules answers are found; default is the task's,
            or boxed without one.
        grader: name of the grader; default is the task's, or strict without one.
        model: name of the model that drew the samples, for tables.
        data_dir: folder of task files; default is the environment variable HARNESS_DATA_DIR, then the hub.
    """
    from harness.commands.evaluate import table
    from harness.evals.imported import Import, import_evaluation
    from harness.evals.record import record
    from harness.evals.rows import load_task
    from harness.evals.task import Task, find_tasks
    from harness.prompts.find import find_template

    if not files:
        raise InputError("no file given; name the files of samples of one run.")
    found = find_tasks(task) if task else [Task(files[0].name.partition(".")[0])]
    if len(found) > 1:
        raise InputError(f"--task '{task}' names {len(found)} tasks; import the samples of one at a time.")
    wanted = Import(
        files,
        found[0].name,
        load_task(found[0], data_dir) if task else None,
        find_template(protocol or found[0].protocol),
        grader or found[0].grader,
        model,
    )
    results, known, changed = import_evaluation(wanted, output)
    record(results, output)
    print(table(results, output))
    if known:
        print(f"  {changed} of {known} verdicts differ from those on file")
    return 0
