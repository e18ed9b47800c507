import pytest

from harness.commands.prepare import prepare


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The built-in task with few problems, and its untrained model."""
    folder = tmp_path_factory.mktemp("arithmetic")
    prepare(folder, num_sft=10, num_train=24, num_probe=6, num_test=6)
    return folder
