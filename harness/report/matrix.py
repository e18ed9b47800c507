"""Tasks x models: which evaluations are of one model, and the tests between any two of them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from harness.errors import InputError
from harness.evals.compare import as_json, describe_limit, pair_values, sentence
from harness.metrics.intervals import PairedTest, paired_test
from harness.metrics.sequential import holm
from harness.report.runs import Values, finite

MAX_TESTS = 120
"""Tests of a page at most, of a fraction of a second each; of more only those against the reference are made."""


def name_columns(evaluations: Sequence[dict[str, Any]]) -> list[str]:
    """Give each evaluation the `model` whose column of the matrix it stands in; the names of all columns.

    A model is what was asked for, by the end of its path; where that would put two evaluations of one task in one
    column, the name says also the weights, the sampling, the search, the reward, the protocol, the grader, and last
    the evaluation's own name, as far as is needed.
    """
    short = short_names({model_of(each["results"]) for each in evaluations})
    facts = [_facts(each, short) for each in evaluations]
    names = [parts[0] for parts in facts]
    for level in range(1, len(facts[0]) if facts else 0):
        seen = Counter((name, each["results"]["task"]) for name, each in zip(names, evaluations, strict=True))
        unclear = {name for (name, _), count in seen.items() if count > 1}
        for name in unclear:
            rows = [i for i, each in enumerate(names) if each == name]
            if len({facts[i][level] for i in rows}) > 1:
                for i in rows:
                    names[i] = f"{name} · {facts[i][level]}"
    for each, name in zip(evaluations, names, strict=True):
        each["model"] = name
    return list(dict.fromkeys(names))


def model_of(results: Mapping[str, Any]) -> str:
    """What was evaluated, as it was named; the weights where an evaluation does not say."""
    return str(results.get("config", {}).get("model") or results["hashes"]["weights"])


def _facts(each: Mapping[str, Any], short: Mapping[str, str]) -> tuple[str, ...]:
    results, sampling = each["results"], each["results"]["sampling"]
    drawn = "imported"  # whose files do not say how their samples were drawn
    if sampling["temperature"] is not None:
        drawn = "greedy" if sampling["temperature"] == 0 else f"t{sampling['temperature']:g}"
    return (
        short[model_of(results)],
        str(results["hashes"]["weights"])[:12],
        drawn if sampling["n"] == 1 else f"{drawn} × {sampling['n']}",
        _class(results["search"]),
        _class(results["reward"]),
        str(each["protocol"]["name"]),
        str(results["grader"]["name"]),
        str(each["name"]),
    )


def _class(part: Any) -> str:
    return str(part.get("class", part)) if isinstance(part, Mapping) else str(part or "none")


def short_names(models: set[str]) -> dict[str, str]:
    """The shortest end of each path that no other one has, without the `hf` of a run's export."""
    parts = {model: tuple(part for part in PurePath(model).parts if part != "hf") or (model,) for model in models}
    found = {}
    for model, own in parts.items():
        others = [each for other, each in parts.items() if other != model]
        count = next((n for n in range(1, len(own)) if not any(own[-n:] == each[-n:] for each in others)), len(own))
        found[model] = "/".join(own[-count:])
    return found


def tests(evaluations: Sequence[Mapping[str, Any]], values: Sequence[Values], reference: str) -> list[dict[str, Any]]:
    """The paired test of every two evaluations of a task, as `harness compare` makes it; of too many only those with
    the reference, a model.

    `p_value_holm` holds the p-value twice, adjusted (Holm 1979) for all tests against the first one's model and for
    all against the second one's: whichever the others are compared with, the matrix shows the tests against it.
    """
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(len(evaluations)), 2)
        if evaluations[i]["results"]["task"] == evaluations[j]["results"]["task"]
        and evaluations[i]["model"] != evaluations[j]["model"]
    ]
    if len(pairs) > MAX_TESTS:
        pairs = [(i, j) for i, j in pairs if reference in (evaluations[i]["model"], evaluations[j]["model"])]
    found = [_test(evaluations, values, i, j) for i, j in pairs]
    for model in dict.fromkeys(each["model"] for each in evaluations):
        against = [test for test in found if model in test["models"] and "p_value" in test]
        for test, p_value in zip(against, holm([test["p_value"] for test in against]), strict=True):
            test["p_value_holm"][test["models"].index(model)] = p_value
    return found


def _test(evaluations: Sequence[Mapping[str, Any]], values: Sequence[Values], i: int, j: int) -> dict[str, Any]:
    first, second = evaluations[i], evaluations[j]
    both = first["results"], second["results"]
    models, task = (first["model"], second["model"]), both[0]["task"]
    found: dict[str, Any] = {"task": task, "first": i, "second": j, "models": models, "p_value_holm": [None, None]}
    try:
        pairs, clusters = pair_values(
            (values[i].accuracy, values[j].accuracy),
            (values[i].problems, values[j].problems),
            (first["name"], second["name"]),
            same_data=both[0]["hashes"]["data"] == both[1]["hashes"]["data"],
        )
    except InputError as error:
        return {**found, "sentence": f"{task}: {error}"}  # of other problems: no test can be made, and the page says so
    test = paired_test([a for a, _ in pairs.values()], [b for _, b in pairs.values()], clusters=clusters)
    said = sentence(task, "accuracy", test, len(pairs), models, [describe_limit(each) for each in both])
    return {**found, **_rounded(test, len(pairs)), "sentence": said}


def _rounded(test: PairedTest, count: int) -> dict[str, Any]:
    """As `harness compare` writes it, with fewer digits; p-values, which may be tiny, keep theirs."""
    values = {name: finite(value) if type(value) is float else value for name, value in as_json(test, count).items()}
    return {**values, "p_value": test.p_value}
