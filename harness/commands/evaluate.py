"""`harness eval`, `harness tasks` and `harness compare`."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engines.config import EngineConfig
from harness.errors import InputError
from harness.evals.contamination import overlaps, training_texts
from harness.evals.evaluation import Evaluation, TooLong
from harness.evals.presets import AUTO, REASONING, check_preset, find_preset
from harness.evals.rows import SUFFIXES, load_task
from harness.evals.rows import fetch as fetch_rows
from harness.evals.task import DATA_DIR, Task, data_folder, find_tasks, groups, shipped_tasks
from harness.metrics.summary import MetricConfig, own_name
from harness.prompts.find import find_template
from harness.prompts.templates import PromptTemplate
from harness.protocols import Reward, SearchMethod
from harness.sandbox import Sandbox
from harness.types import SamplingConfig

if TYPE_CHECKING:
    from harness.rollouts.dispatcher import Dispatcher


def eval_tasks(
    task: str,
    model: str,
    engine: EngineConfig = EngineConfig(),
    protocol: str | dict[str, Any] = "",
    n: int = 1,
    k: str = "",
    s: str = "",
    tau: str = "",
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int = 0,
    max_tokens: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    order: int | None = None,
    data_dir: Path | None = None,
    output: Path | None = None,
    grader: str = "",
    search: SearchMethod | None = None,
    reward: Reward | None = None,
    sandbox: Sandbox | None = None,
    training_files: list[str] | None = None,
    export: str = "",
    wandb_project: str = "",
    shard: str = "",
    preset: str = AUTO,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: list[str] | None = None,
    thinking_budget: int | None = None,
    samples: str = "",
    too_long: TooLong = "error",
    budgets: str = "",
    force_answer: str = "",
    released: str = "",
    until: str = "",
) -> int:
    """Evaluate a model on tasks; a run that was interrupted continues, a larger n adds only what is missing.

    Args:
        task: names of tasks (see `harness tasks`), groups such as competition and all-math, and paths of JSONL files
            of problems or of YAML files that describe a task, separated by commas.
        model: checkpoint directory or hub name; for a server its tokenizer.
        engine: which engine draws the samples, and how much memory it may use.
        protocol: how problems are asked and answers are read: the name of a prompt template, a YAML file with its
            fields, or the fields; default is each task's own.
        n: samples per problem.
        k: values of k for pass@k, maj@k and best-of-k, separated by commas; default is 1 and n.
        s: numbers of distinct correct responses wanted, for pass@k-s and reward@k-s.
        tau: shares of k draws that must be right, for gpass@k-tau and mgpass@k, separated by commas, such as 0.5,1.
        temperature: default is the task's: 0 for one sample, 0.8 for several and for a search, which needs candidates
            that differ; with a preset it is the preset's.
        top_p: share of the probability that is sampled from; default is 1 or the preset's.
        top_k: tokens that are sampled from; 0 is all.
        max_tokens: longest response; default is the task's or the preset's.
        seed: of the samples.
        limit: only the first so many problems of each task.
        order: seed of a random order in which problems are taken instead of that of the file: a limit is then a fair
            sample, and a larger limit only adds to it.
        data_dir: folder of task files; default is the environment variable HARNESS_DATA_DIR, then the hub.
        output: directory of the results; of several tasks each gets a folder in it. Default is a folder in runs/eval
            named after the model, its weights, the task, the protocol and the temperature, and by a hash of all else
            but n: search, reward, grader, sampling, limit, data.
        grader: name of the grader; default is each task's own.
        search: how responses are found; default is independent samples.
        reward: ranks the responses, for best-of-k and weighted votes.
        sandbox: runs the programs of searches that write code. Coding tasks run their unit tests in one of their own
            and refuse where a layer of isolation is missing; giving a sandbox here accepts the layers there are.
        training_files: JSONL files that the model was trained on; what they share with the tasks is reported.
        export: formats in which the samples are written as well, separated by commas: lm_eval, inspect.
        wandb_project: Weights & Biases project that gets a line for each task; default is none.
        shard: for clusters, where each job takes a part: 3/64 evaluates every 64th problem from the third on, in a
            folder of its own in the output; merge, once all are finished, makes the whole of them and opens no engine.
        preset: defaults of temperature, top_p and max_tokens: reasoning (0.6, 0.95, 32768), none (the task's own), or
            auto, which is reasoning where the protocol is a chat and the model's chat template lets it think.
        min_p: leaves out tokens less likely than this share of the likeliest one's probability.
        repetition_penalty: makes tokens that prompt or response hold already less likely; 1 is off.
        stop: strings that end a response; default is the protocol's.
        thinking_budget: tokens after which a thought is ended by force; default is none. The model's tokenizer must
            have the tokens <think> and </think>.
        samples: ids of problems, separated by commas, to ask those alone.
        too_long: what a prompt is that does not fit into the model's context: an error, or with "skip" left out and
            counted.
        budgets: numbers of tokens, separated by commas, such as 1024,2048,4096: what the accuracy would be with so many
            tokens, from this run's responses, each cut there.
        force_answer: what is put behind a response that a budget cut before its answer (and behind the end of its
            thought), so that it gives one in up to 32 tokens, such as 'The answer is \\boxed{'; default is to count
            such responses as wrong. The numbers without it are there as well.
        released: month of the model's release, such as 2025-06: the last lines then say its accuracy on competitions
            from before and from after.
        until: such as half_width<0.02: ask problems in a random order (that of --order, or 0) only until half the width
            of the accuracy's interval is below that; the interval is one that holds under such a stop.
    """
    from harness.engines import open_engine
    from harness.engines.completion import check_sampling
    from harness.evals.closing import closing_words
    from harness.evals.dates import check_released, date_lines
    from harness.evals.record import record
    from harness.evals.run import check, run
    from harness.evals.shards import (
        check_alike,
        engine_of_shards,
        finished_shards,
        part_of,
        shard_folder,
        shards_to_merge,
    )
    from harness.evals.until import check_until, parse_until
    from harness.evals.variants import gap_lines
    from harness.models.checkpoints import load_tokenizer
    from harness.rollouts.dispatcher import Dispatcher
    from harness.rollouts.shards import MERGE, Shard, parse_shard

    check_preset(preset)
    stop_rule = parse_until(until)
    part = parse_shard(shard)
    if part == MERGE and force_answer:
        raise InputError("--shard merge opens no engine, which --force_answer needs; run without one of them.")
    if part is not None and output is None:
        raise InputError(f"--shard {shard} needs --output: the folder of the evaluation, the same for all shards.")
    options = {name: plain(value) for name, value in locals().items() if name in OPTIONS}
    writers = exporters(export)
    if stop_rule is not None and part is not None:
        raise InputError("--until looks at all problems that were asked, and a shard is a part; leave out one of them.")
    if stop_rule is not None and order is None:
        order = 0
    metrics = MetricConfig(numbers(k, "k") or tuple(sorted({1, n})), numbers(s, "s"), shares(tau))
    ids = [name.strip() for name in samples.split(",") if name.strip()]
    plans = make_plans(task, protocol, metrics, limit, order, data_dir, ids)
    check_released(released, [plan.evaluation.task for plan in plans])
    plans = with_contamination(plans, training_files or [])
    several, merged = len(plans) > 1, {}
    if output is not None and part == MERGE:
        for evaluation in (plan.evaluation for plan in plans):
            name = evaluation.task.name
            merged[name] = shards_to_merge(output / name if several else output, len(evaluation.data.problems))
    check_sandbox(plans, sandbox)
    tokenizer = load_tokenizer(model)
    check_chat(model, tokenizer, [plan.template for plan in plans])
    presets = [find_preset(preset, plan.template, tokenizer) for plan in plans]
    if preset == AUTO and REASONING in presets:
        print(f"the model's chat template lets it think: {REASONING} (--preset none for the task's own)", flush=True)
    evaluations = []
    for plan, defaults in zip(plans, presets, strict=True):
        each = plan.evaluation.task
        own = each.default_temperature(n > 1 or search is not None)
        sampling = SamplingConfig(
            n=n,
            temperature=first_given(temperature, defaults.temperature, own),
            top_p=first_given(top_p, defaults.top_p, 1.0),
            top_k=top_k,
            max_tokens=int(first_given(max_tokens, defaults.max_tokens, each.max_tokens)),
            stop=tuple(stop or ()),
            seed=seed,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            thinking_budget=thinking_budget,
        )
        evaluation = replace(
            plan.evaluation,
            sampling=sampling,
            search=search,
            metrics=replace(plan.evaluation.metrics, searched=search is not None),
            reward=reward,
            grader=grader or each.grader,
            until=stop_rule,
            budgets=numbers(budgets, "budgets"),
            force_answer=force_answer,
        )
        check_sampling(sampling)
        check(evaluation, plan.template)
        check_until(evaluation)
        evaluations.append(evaluation)
    done: list[tuple[dict[str, Any], Path]] = []
    shards = next(iter(merged.values()), None)
    opened = engine_of_shards(shards[0], "" if engine.is_url else model) if shards else open_engine(model, engine)
    try:
        for plan, evaluation in zip(plans, evaluations, strict=True):
            dispatcher = Dispatcher(opened, tokenizer, plan.template, reward, sandbox, evaluation.grader)
            each = evaluation.task
            folder = output_folder(output, several, model, dispatcher, evaluation)
            if isinstance(part, Shard):
                evaluation, folder = (
                    replace(evaluation, data=part_of(evaluation.data, part)),
                    shard_folder(folder, part),
                )
                if not evaluation.data.problems:
                    print(f"{each.name}: shard {part} holds none of its problems", flush=True)
                    continue
                print(table(run(evaluation, dispatcher, folder, options, too_long=too_long), folder), flush=True)
                continue
            shards = merged.get(each.name, [])
            check_alike(shards, evaluation, dispatcher)
            beside = shards or [*finished_shards(folder), *([] if output else alike(folder))]
            results = run(evaluation, dispatcher, folder, options, beside, too_long)
            done.append((results, folder))
            record(results, folder, wandb_project)
            for write in writers:
                write(
                    folder,
                    folder,
                    lambda problem, dispatcher=dispatcher: dispatcher.template.render(problem, tokenizer),
                )
            print(table(results, folder), flush=True)
    finally:
        opened.close()
    if done:
        tasks = {plan.evaluation.task.name: plan.evaluation.task for plan in plans}
        for line in (*gap_lines(tasks, done), *date_lines(released, tasks, done)):
            print(line)
        print(closing_words(done))
    return 0


def first_given(*values: float | None) -> float:
    """The first of several values that is one."""
    return next(value for value in values if value is not None)


OPTIONS = frozenset(inspect.signature(eval_tasks).parameters) - {"shard"}
"""What results.json says of the options; those of merged shards are the results of one run."""
MAX_SHOWN = 30
"""Levels or subjects of which the terminal shows each."""


@dataclass(frozen=True)
class Plan:
    """One task to evaluate, with its rows read and its protocol found."""

    evaluation: Evaluation
    template: PromptTemplate


def make_plans(
    tasks: str,
    protocol: str | dict[str, Any],
    metrics: MetricConfig,
    limit: int | None,
    order: int | None,
    data_dir: Path | None,
    ids: Sequence[str] = (),
) -> list[Plan]:
    """Read all that can be wrong about the tasks before any model is loaded."""
    return [
        Plan(
            Evaluation(task, load_task(task, data_dir, limit, order, ids), metrics),
            find_template(protocol or task.protocol),
        )
        for task in find_tasks(tasks)
    ]


def with_contamination(plans: list[Plan], files: Sequence[str]) -> list[Plan]:
    """Check the tasks against training files and say what was found."""
    if not files:
        return plans
    problems = {plan.evaluation.task.name: plan.evaluation.data.problems for plan in plans}
    found = overlaps(problems, training_texts(files))
    for overlap in found:
        print(f"contamination: {overlap}", flush=True)
    return [
        replace(plan, evaluation=replace(plan.evaluation, contamination=overlap))
        for plan, overlap in zip(plans, found, strict=True)
    ]


def exporters(names: str) -> list[Callable[..., Path]]:
    """The functions that write the named formats."""
    from harness.evals import export

    known = {"lm_eval": export.to_lm_eval, "inspect": export.to_inspect}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if bad := [name for name in wanted if name not in known]:
        raise InputError(f"unknown export '{bad[0]}'; known: {', '.join(known)}.")
    return [known[name] for name in wanted]


def check_sandbox(plans: Sequence[Plan], sandbox: Sandbox | None) -> None:
    """Raise `InputError` if a task runs programs, isolation is incomplete, and no sandbox was given to accept that."""
    coding = [plan.evaluation.task.name for plan in plans if plan.evaluation.task.kind == "code"]
    if not coding or sandbox is not None:
        return
    try:
        Sandbox(level="strict").close()
    except InputError as error:
        raise InputError(
            f"task '{coding[0]}' runs generated programs, and {error} Here that is --sandbox Sandbox."
        ) from None


def check_chat(model: str, tokenizer: Any, templates: Sequence[PromptTemplate]) -> None:
    """Raise `InputError` if a protocol is a chat and the tokenizer has no template for one."""
    chat = next((template.name for template in templates if template.chat), None)
    if chat and not tokenizer.chat_template:
        raise InputError(
            f"{model}: protocol '{chat}' is a chat, but the tokenizer has no chat template; give another --protocol "
            "(such as math_few_shot, gsm8k_few_shot, choice_few_shot or bstar) or a chat model."
        )


def output_folder(
    output: Path | None, several: bool, model: str, dispatcher: Dispatcher, evaluation: Evaluation
) -> Path:
    """Where an evaluation goes; the default is a folder of its own for everything but n, to which samples are added."""
    from harness.evals.run import asked, made_by_of
    from harness.store import stable_hash

    task, sampling = evaluation.task.name, evaluation.sampling
    if output is not None:
        return output / task if several else output
    weights = dispatcher.engine.version.replace(":", "-")[:12]
    drawn = "greedy" if sampling.temperature == 0 else f"t{sampling.temperature:g}"
    made_by = made_by_of(evaluation, dispatcher)
    number = stable_hash(asked(evaluation, made_by), made_by.judged, bits=32)
    setting = f"{task}-{dispatcher.template.name}-{drawn}-{number:08x}"
    return Path("runs/eval") / f"{model_name(model)}-{weights}" / setting


def model_name(model: str) -> str:
    """A model as folders name it: by its path as given, links unread, a run's exports by the run; never hidden."""
    if not Path(model).exists():
        return model.replace("/", "--")
    path = Path(os.path.abspath(model))
    name = path.name.lstrip(".")
    if path.parent.name == "checkpoints":
        return f"{path.parent.parent.name}-{name}"
    return path.parent.name + name.removeprefix("hf") if name.partition("-")[0] == "hf" else name


def alike(folder: Path) -> list[Path]:
    """Default folders of the same model, task, protocol and temperature, which may hold the same draws."""
    prefix = folder.name.rpartition("-")[0]
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    return [path for path in sorted(beside) if path != folder and path.name.rpartition("-")[0] == prefix]


def numbers(text: str, name: str) -> tuple[int, ...]:
    """The whole numbers of a comma-separated list, ascending; raises `InputError` for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if bad := [part for part in parts if not (part.isascii() and part.isdigit() and int(part) >= 1)]:
        raise InputError(f"--{name} '{text}': '{bad[0]}' is not a whole number of at least 1; write 1,8,32.")
    return tuple(sorted({int(part) for part in parts}))


def shares(text: str) -> tuple[float, ...]:
    """The shares above 0 and up to 1 of a comma-separated list; raises `InputError` for anything else."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(float(part))
        except ValueError:
            found.append(math.nan)
        if not 0 < found[-1] <= 1:
            raise InputError(f"--tau '{text}': '{part}' is no share above 0 and up to 1; write 0.5,0.75,1.")
    return tuple(sorted(set(found)))


def plain(value: Any) -> Any:
    """An option as JSON: of an object that is no dataclass its class and plain attributes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if type(value).__repr__ is not object.__repr__:
        return repr(value)
    fields = {name: each for name, each in sorted(vars(value).items()) if isinstance(each, bool | int | float | str)}
    return f"{type(value).__name__}({', '.join(f'{name}={each!r}' for name, each in fields.items())})"


def table(results: Mapping[str, Any], folder: Path) -> str:
    """The results for the terminal."""
    from harness.evals.compare import describe_limit

    counts, protocol, limit = results["counts"], results["protocol"], describe_limit(results)
    lines = [
        f"{results['task']}: {limit or '{problems} problems'.format_map(counts)}, {counts['samples']} samples, "
        f"protocol {protocol['name']}, grader {results['grader']['name']}, {results['engine']}"
    ]
    if results["reward"] and results["answer_weight"] is None:
        lines.append(
            f"  {results['reward']['class']} sees the gold answer, or does not say that it does not: "
            "its metrics are not those of a reward at test time"
        )
    width = max(map(len, results["metrics"]))
    for name, metric in results["metrics"].items():
        if metric["value"] is not None:
            interval = f"[{shown(metric['low'])}, {shown(metric['high'])}]"
            lines.append(f"  {name:<{width}}  {shown(metric['value']):>8}  {interval}{average(name, results)}")
    lines += budget_lines(results.get("budgets") or ())
    for field in ("level", "subject"):
        lines += by_lines(field, results["by"].get(field) or {})
    split = results["variance"] or {}
    if whole := split.get("problems", 0) + split.get("samples", 0):
        share = f"{100 * split['samples'] / whole:.0f} %"
        lines.append(
            f"  {share} of the variance of accuracy is from drawing samples, the rest from the problems; from "
            f"n = {split['enough']} on more samples hardly narrow it"
        )
    return "\n".join([*lines, f"  {folder / 'results.json'}"])


def average(name: str, results: Mapping[str, Any]) -> str:
    """Behind the accuracy of several independent samples: what others call it, with its standard error."""
    counts, error = results["counts"], results["metrics"][name].get("error")
    if name != "accuracy" or error is None or not results["variance"]:
        return ""
    return f"  (avg@{counts['samples'] // counts['problems']}, standard error {shown(error)})"


def budget_lines(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """The accuracy at each budget of tokens for the terminal, with answers forced where that was asked for."""
    if not points:
        return []
    lines = ["  accuracy by budget of tokens" + ", and with forced answers" * bool(points[0]["forced"])]
    width = len(str(points[-1]["tokens"]))
    for point in points:
        cells = [
            f"{shown(each['value']):>8}  [{shown(each['low'])}, {shown(each['high'])}]"
            for metrics in (point["metrics"], point["forced"])
            if metrics and (each := metrics["accuracy"])
        ]
        cut = f"{point['metrics']['truncated']['value']:.1%} cut off"
        lines.append("  ".join([f"    {point['tokens']:>{width}}", *cells, cut]))
    return lines


def by_lines(field: str, by: Mapping[str, Any]) -> list[str]:
    """The accuracy of each level or subject for the terminal; of very many only how many there are."""
    if len(by) > MAX_SHOWN:
        return [f"  accuracy by {field}: {len(by)} of them, in results.json and the report"]
    width = max(map(len, by), default=0)
    head = [f"  accuracy by {field}"] if by else []
    return head + [
        f"    {name:<{width}}  {shown(each['value']):>8}  [{shown(each['low'])}, {shown(each['high'])}]  "
        f"{each['problems']} problems"
        for name, each in by.items()
    ]


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def compare_variants(
    firsts: Mapping[str, Path],
    seconds: Mapping[str, Path],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    output: Path | None,
) -> int:
    """Say the gap of each set of variants to its originals; `pairs` names the tasks."""
    from harness.evals.variants import gap_between, gap_sentence
    from harness.store import write_json

    gaps = {}
    for first, second in pairs:
        folders = firsts[first], seconds[second]
        if (gap := gap_between(*folders, metric)) is None:
            raise InputError(
                f"{folders[0]} ({first}) and {folders[1]} ({second}) share no task, and no problem of the second names "
                "one of the first as the one it was made from (cluster)."
            )
        print(gap_sentence(gap, metric, (first, second), folders))
        gaps[second] = {"originals_of": first, **gap.as_json()}
    if output is not None:
        write_json(output, {"metric": metric, "gaps": gaps})
    return 0


def list_tasks(data_dir: Path | None = None, fetch: str = "") -> int:
    """List the tasks: rows, protocol, licence, source, and whether the data folder holds them.

    Args:
        data_dir: folder of task files; default is the environment variable HARNESS_DATA_DIR.
        fetch: tasks or groups, separated by commas, whose rows are taken from the hub into the data folder instead.
    """
    if fetch:
        return fetch_tasks(find_tasks(fetch), data_dir)
    folder = data_folder(data_dir)
    rows = [("task", "rows", "kind", "protocol", "data", "licence", "source")]
    for task in shipped_tasks().values():
        held = folder is not None and any((folder / f"{task.file}{end}").is_file() for end in SUFFIXES)
        data = "here" if held else "built in" if not task.file else "hub" if task.hub else "missing"
        licence = task.licence.partition(" (")[0].partition(";")[0]
        rows.append((task.name, str(task.num_rows), task.kind, str(task.protocol), data, licence, task.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for group, names in groups().items():
        print(f"{group}: {', '.join(names)}" if group.partition("-")[0] != "all" else f"{group}: {len(names)} tasks")
    print("the path of a JSONL file (question, answer), or of a YAML file that describes a task, is a task as well.")
    print("`harness tasks --fetch NAME --data_dir FOLDER` takes rows from the hub; `eval` does by itself where it can.")
    return 0


def fetch_tasks(tasks: Sequence[Task], data_dir: Path | None) -> int:
    """Take the rows of tasks from the hub into the data folder; one that is on no hub is an error."""
    if data_dir is not None:
        data_dir.mkdir(parents=True, exist_ok=True)
    if (folder := data_folder(data_dir)) is None:
        raise InputError(f"--fetch needs a folder for the rows; give --data_dir, or set {DATA_DIR}.")
    for task in tasks:
        path, count = fetch_rows(task, folder)
        print(f"{path}: {count} rows of {task.source} ({task.licence})")
    return 0


def compare(
    first: Path,
    second: Path,
    metric: str = "accuracy",
    sequential: str = "",
    looks: int = 5,
    order: int = 0,
    planned: int | None = None,
    output: Path | None = None,
    others: list[Path] | None = None,
    all_pairs: bool = False,
) -> int:
    """Compare evaluations problem by problem: McNemar's test for one sample each, a paired bootstrap otherwise.

    Problems that share a cluster count together; several tasks, or more than two evaluations, are adjusted for the
    number of their comparisons (p-values by Holm's rule, the bets of e_process by e-BH). Of a set and one of variants
    made from it (math and math_perturb_hard) it says the gap, original by original.

    Args:
        first: output folder of an evaluation, or a folder of several.
        second: another one; its values minus the first one's are tested.
        metric: any metric of results.json that has a value for each problem; avg@k and cons@k mean accuracy and maj@k.
        sequential: look at a comparison before all problems were asked, with guaranteed error: obrien_fleming or pocock
            (a plan of --looks looks, the estimate adjusted for having stopped), or e_process (at any time, finds less).
        looks: looks of the plan, at equal shares of the problems.
        order: seed of the random order of problems, the same as in `harness eval --limit N --order SEED`.
        planned: problems of the whole comparison; default is all of the task.
        output: JSON file to write the tests to.
        others: further evaluations (any words behind the second), each tested against the first as well; all
            comparisons are adjusted together.
        all_pairs: of more than two, compare every one with every other, not with the first alone.
    """
    from harness.evals.compare import evaluation_folders
    from harness.evals.comparisons import Look, adjust, compare_runs, comparison_table
    from harness.evals.variants import variant_pairs
    from harness.report.matrix import short_names
    from harness.store import write_json

    metric, runs = own_name(metric), [first, second, *(others or ())]
    if len(runs) > 2 and (again := [run for run in runs if runs.count(run) > 1]):
        raise InputError(f"{again[0]} is given twice; name each evaluation once.")
    folders = [evaluation_folders(run) for run in runs]
    a, b = folders[:2]
    related = [] if sequential or len(runs) > 2 or set(a) & set(b) else variant_pairs(a, b)
    if related:
        return compare_variants(a, b, related, metric, output)
    names = [str(run) for run in runs]
    if len(runs) > 2:
        short = short_names(set(names))
        names = [short[name] for name in names]
    look = Look(sequential, looks, order, planned) if sequential else None
    found = compare_runs(list(zip(names, folders, strict=True)), metric, all_pairs, look)
    together = adjust(found, look)
    if len(runs) > 2 and look is None:
        print(comparison_table(found, metric))
        print(
            f"{len(found)} comparisons together (Holm): the chance to name any difference that is none is at most 5 %; "
            "intervals are each comparison's alone."
        )
    else:
        print("\n".join([*(each.text for each in found), *filter(None, [together])]))
    if output is not None:
        about: dict[str, Any] = {"first": str(first), "second": str(second)}
        tests: Any = {each.task: each.found for each in found}
        if len(runs) > 2:
            about = {"runs": dict(zip(names, map(str, runs), strict=True))}
            tests = [
                {"task": each.task, "first": each.names[0], "second": each.names[1], **each.found} for each in found
            ]
        write_json(output, {**about, "metric": metric, "tests": tests})
    return 0
