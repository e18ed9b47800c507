import pytest

from harness.commands.prepare import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The built-in task in small: 12 training problems, 4 to probe and 4 to test, and a base model."""
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=10, num_train=12, num_probe=4, num_test=4)
    return folder
