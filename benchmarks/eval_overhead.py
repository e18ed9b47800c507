"""What an evaluation costs beyond its engine: the same requests given to the engine alone, and to `harness eval`.

    python benchmarks/eval_overhead.py --model runs/arithmetic/10_sft/hf --task arithmetic --n 8

Both ways draw the same samples from one open engine, in turns; grading, logging, the metrics and the result files
count as overhead. The target is a ratio of at most 1.10.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness.environment import prepare_environment

TARGET = 1.10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--task", default="arithmetic")
    parser.add_argument("--protocol", default="")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--max_tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    prepare_environment()

    from harness.commands.evaluate import make_plans
    from harness.engines import EngineConfig, generate, open_engine
    from harness.evals.run import run
    from harness.metrics.summary import MetricConfig
    from harness.models.checkpoints import load_tokenizer
    from harness.rollouts.dispatcher import Dispatcher, problem_seed
    from harness.types import GenerationRequest, SamplingConfig

    [plan] = make_plans(options.task, options.protocol, MetricConfig(k=(1, options.n)), options.limit, None, None)
    temperature = 1.0 if options.n > 1 else 0.0
    sampling = SamplingConfig(n=options.n, temperature=temperature, max_tokens=options.max_tokens)
    evaluation = replace(plan.evaluation, sampling=sampling)
    tokenizer = load_tokenizer(options.model)
    engine = open_engine(options.model, EngineConfig(kind=options.engine))
    prompts = Dispatcher(engine, tokenizer, plan.template)
    requests = [
        GenerationRequest(
            problem.id,
            prompts.prompt_ids(problem),
            replace(sampling, seed=problem_seed(sampling, problem), stop=plan.template.stop),
        )
        for problem in evaluation.data.problems
    ]

    def bare() -> float:
        start = time.perf_counter()
        for _ in generate(engine, requests):
            pass
        return time.perf_counter() - start

    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            run(evaluation, Dispatcher(engine, tokenizer, plan.template), Path(folder), {})
            return time.perf_counter() - start

    bare(), whole()  # warm up
    pairs = [(bare(), whole()) for _ in range(options.repeats)]
    ratio = statistics.median(second / first for first, second in pairs)
    alone, both = (statistics.median(times) for times in zip(*pairs, strict=True))
    engine.close()
    print(
        f"{engine.name}, {options.task}, {len(requests)} problems x {options.n} samples, {options.repeats} pairs: "
        f"engine alone {alone:.2f} s, evaluation {both:.2f} s, median ratio {ratio:.3f} (target {TARGET})"
    )
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
