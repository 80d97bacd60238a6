"""A real kernel, for tests of what only a kernel does: interrupts, displays, imports."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class Reply:
    """What a cell gave in a kernel."""

    status: str
    """ok, error or aborted."""
    ename: str
    """The name of the exception."""
    evalue: str
    """Its message."""
    took_s: float
    """From asking to the reply."""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """Displays, results and streams, in order, as message contents."""

    @property
    def text(self) -> str:
        """All that was shown, as text."""
        return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in self.outputs)


class Kernel:
    """A kernel and its client."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager = manager
        self.client = client

    def ask(self, source: str) -> str:
        """Send a cell; returns its id."""
        return str(self.client.execute(source, stop_on_error=True))

    def reply(self, asked: str, timeout_s: float = 60.0) -> Reply:
        """Wait for a cell's reply."""
        began = time.monotonic()
        while True:
            message = self.client.get_shell_msg(timeout=timeout_s)
            if message["parent_header"].get("msg_id") == asked:
                break
        content = message["content"]
        took = time.monotonic() - began
        outputs: list[dict[str, Any]] = []
        while content["status"] != "aborted":
            published = self.client.get_iopub_msg(timeout=timeout_s)
            if published["parent_header"].get("msg_id") != asked:
                continue
            kind = published["msg_type"]
            if kind == "status" and published["content"]["execution_state"] == "idle":
                break
            if kind in {"display_data", "execute_result", "stream", "update_display_data"}:
                outputs.append(published["content"] | {"msg_type": kind})
        return Reply(content["status"], content.get("ename", ""), content.get("evalue", ""), took, outputs)

    def run(self, source: str, timeout_s: float = 60.0) -> Reply:
        """Run a cell to its end."""
        return self.reply(self.ask(source), timeout_s)

    def interrupt(self) -> None:
        """What ■ does: a signal to the whole process group."""
        self.manager.interrupt_kernel()


@contextmanager
def kernel(**environment: str) -> Iterator[Kernel]:
    """A kernel of this interpreter, with the package on its path."""
    manager = KernelManager(kernel_name="python3")
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="tests",
        language="python",
    )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    manager.start_kernel(env={**os.environ, "PYTHONPATH": path, **environment})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def wait_for(path: Path, timeout_s: float = 30.0) -> None:
    """Wait until a kernel has made a file."""
    wait_until(path.exists, timeout_s)
