"""The scripted Messages API in a process of its own, so that its work is nobody's and the same for every side.

Example:
    >>> with ApiProcess() as api:
    ...     api.url.startswith("http://127.0.0.1:"), api.sizes()
    (True, [])
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Self

from claude_pool_nb.testing import ScriptedAPI


class ApiProcess:
    """A handle on the server process; it ends when its input is closed."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.api_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url: str = self._ask("url")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _ask(self, command: str, value: Any = None) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, value]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def set_latency(self, seconds: float) -> None:
        """How long it waits before the first byte of every answer."""
        self._ask("latency", seconds)

    def clear(self) -> None:
        """Forget the requests so far."""
        self._ask("clear")

    def sizes(self) -> list[int]:
        """Bytes of each request's body, in the order of arrival."""
        sizes: list[int] = self._ask("sizes")
        return sizes


def main() -> None:
    with ScriptedAPI() as api:
        for line in sys.stdin:
            command, value = json.loads(line)
            answer: Any = None
            match command:
                case "url":
                    answer = api.url
                case "latency":
                    api.latency_s = value
                case "clear":
                    api.clear()
                case "sizes":
                    answer = [request.size for request in api.requests]
                case _:
                    sys.exit(f"unknown command {command!r}")
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
