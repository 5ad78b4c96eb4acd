"""For the tests: one thread, a fixed seed before each, and GPU tests that are skipped aloud where there is no GPU."""
import pytest
import torch

torch.set_num_threads(1)        # the models here are tiny: threads that wait for each other cost more than they bring

_skipped_for_want_of_a_gpu = []


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
            _skipped_for_want_of_a_gpu.append(item.nodeid)


def pytest_terminal_summary(terminalreporter):
    if _skipped_for_want_of_a_gpu:
        count = len(_skipped_for_want_of_a_gpu)
        terminalreporter.section("GPU tests not run: no CUDA device", sep="!", yellow=True, bold=True)
        terminalreporter.line(f"{count} test{'s' * (count > 1)} marked gpu: run on a machine with an NVIDIA GPU.")
