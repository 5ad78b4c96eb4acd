"""For every pytest run, of tests and of notebooks: Triton's interpreter, and nbval without its rough edges."""
import os

import torch

# Before anything imports triton, which `transformers` does too. The kernels that nbval starts inherit it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("MINILM_PROGRESS", "off")  # a learner's own record of what is solved stays out of it


def pytest_collectstart(collector):
    """Leaves out what differs between machines without anything being wrong: warnings and the bytes of figures."""
    if collector.path and collector.path.suffix == ".ipynb" and hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "image/svg+xml")


def _execute_as_jupyter_does(self, source, allow_stdin=None):
    """Runs a cell with history on: without it, a trailing `;` does not silence the last expression."""
    return self.kc.execute(source, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


def pytest_configure(config):
    if config.getoption("nbval", default=False):
        import nbval.kernel

        from minilm.lab.notebooks import RUN_ENVIRONMENT
        os.environ.update(RUN_ENVIRONMENT)  # what the stored outputs were made with; kernels inherit it
        nbval.kernel.RunningKernel.execute_cell_input = _execute_as_jupyter_does
