"""What an evaluation costs beyond its engine: the same requests given to the engine alone, and to `harness eval`.

    python benchmarks/eval_overhead.py --model runs/arithmetic/10_sft/hf --task arithmetic --n 8

Both ways draw the same samples of one task, or of several, from one open engine, in turns; grading, logging, the
metrics and the result files count as overhead. Time is that of the processor, with one thread; programs that are
graded by running them are not in it. The target is a ratio of at most 1.10.
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
    parser.add_argument("--task", default="arithmetic", help="one, or several with commas")
    parser.add_argument("--protocol", default="")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--data_dir", type=Path, default=None)
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

    temperature = 1.0 if options.n > 1 else 0.0
    sampling = SamplingConfig(n=options.n, temperature=temperature, max_tokens=options.max_tokens)
    metrics = MetricConfig(k=(1, options.n))
    plans = make_plans(options.task, options.protocol, metrics, options.limit, None, options.data_dir)
    tokenizer = load_tokenizer(options.model)
    engine = open_engine(options.model, EngineConfig(kind=options.engine))
    work = []
    for plan in plans:
        prompts = Dispatcher(engine, tokenizer, plan.template)
        requests = [
            GenerationRequest(
                problem.id,
                prompts.prompt_ids(problem),
                replace(sampling, seed=problem_seed(sampling, problem), stop=plan.template.stop),
            )
            for problem in plan.evaluation.data.problems
        ]
        work.append((replace(plan.evaluation, sampling=sampling), plan.template, requests))

    def bare() -> float:
        start = time.process_time()
        for _, _, requests in work:
            for _ in generate(engine, requests):
                pass
        return time.process_time() - start

    def whole() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            for number, (evaluation, template, _) in enumerate(work):
                run(evaluation, Dispatcher(engine, tokenizer, template), Path(folder, str(number)), {})
            return time.process_time() - start

    bare(), whole()  # warm up
    pairs = [(bare(), whole()) for _ in range(options.repeats)]
    ratio = statistics.median(second / first for first, second in pairs)
    alone, both = (statistics.median(times) for times in zip(*pairs, strict=True))
    engine.close()
    asked = f"{options.task}, {sum(len(requests) for *_, requests in work)} problems x {options.n} samples"
    print(
        f"{engine.name}, {asked}, {options.repeats} pairs: engine alone {alone:.2f} s, evaluation {both:.2f} s, "
        f"median ratio {ratio:.3f} (target {TARGET})"
    )
    return int(ratio > TARGET)


if __name__ == "__main__":
    sys.exit(main())
