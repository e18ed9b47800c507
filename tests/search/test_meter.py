from harness.search import Chains, Forest, drive
from harness.search.meter import Meter, metered
from harness.search.steps import PlainSteps
from harness.types import Problem, Rollout, SamplingConfig
from tests.search.script import Script

STEPS = PlainSteps(("\n",))


def test_all_tokens_drawn_for_a_search_are_counted_also_those_of_searches_it_starts():
    # A letter is a token: each chain draws "ab\n" and "c".
    search, meter = Forest(Chains(STEPS), num_trees=3), Meter()
    script = Script({"": ["ab\n"], "ab\n": ["c"]})
    searching = metered(search(Rollout(Problem("p", "?")), SamplingConfig(n=2)), meter)
    [(_, responses)] = drive([("p", searching)], script)
    assert [response.text for response in responses] == ["ab\nc"] * 3
    assert meter.tokens == 3 * 2 * 4
