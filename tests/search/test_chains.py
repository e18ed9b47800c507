from __future__ import annotations

from harness.search import MCTS, Chains, CodeSteps, Forest, PlainSteps
from harness.types import Execution, Generate, Rollout, SamplingConfig
from tests.search.script import PROBLEM, Script, result

LINES = PlainSteps(("\n",))


def test_greedy_decoding_with_code_writes_runs_and_answers():
    first = "<code>\nx = 1<end_of_step>print(x)<end_of_code>"
    shown = first + "\n<output>1<end_of_output>"
    script = Script({"": [first], shown: ["\n<answer>1<end_of_answer>"]}, run=lambda program: Execution("1\n"))
    greedy = Chains(CodeSteps(stop_at_steps=False), max_steps=2, errors_threshold=3)
    [response] = result(greedy(Rollout(PROBLEM), SamplingConfig(temperature=0.0)), script)
    assert (response.text, response.finish_reason) == (shown + "\n<answer>1<end_of_answer>", "stop")
    assert {r.sampling.step_stop for r in script.requests if isinstance(r, Generate)} == {
        ("<end_of_code>", "<end_of_answer>")
    }


def test_chains_are_sampled_with_seeds_of_their_own_and_keep_their_order():
    def samples(request, number, index):
        return [f"{request.sampling.seed}\n" if number == 0 else "end"]

    script = Script(samples)
    responses = result(Chains(LINES)(Rollout(PROBLEM), SamplingConfig(n=4, seed=3)), script)
    seeds = [request.sampling.seed for request in script.requests[:4]]
    assert len(set(seeds)) == 4
    assert [r.text for r in responses] == [f"{seed}\nend" for seed in seeds]


def test_a_chain_without_an_answer_counts_as_cut():
    [response] = result(
        Chains(LINES, max_steps=2)(Rollout(PROBLEM), SamplingConfig()), Script({"": ["a\n"], "a\n": ["b\n"]})
    )
    assert (response.text, response.finish_reason) == ("a\nb\n", "length")


def test_a_forest_keeps_the_best_of_each_tree():
    def samples(request, number, index):
        return ["x" + str(request.sampling.seed % 10), "y" + str(request.sampling.seed % 10)]

    forest = Forest(MCTS(candidates=2, rollouts=1, steps=LINES), num_trees=3)
    script = Script(samples, lambda text: float(text.startswith("y")))
    responses = result(forest(Rollout(PROBLEM), SamplingConfig(seed=1)), script)
    seeds = [request.sampling.seed for request in script.requests if isinstance(request, Generate)]
    assert len(set(seeds)) == 3
    assert [r.text for r in responses] == [f"y{seed % 10}" for seed in seeds]
