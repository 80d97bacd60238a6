"""What frames of sums can be grouped by: apart from them, because completion offers it before pandas is loaded."""

from __future__ import annotations

COST_KEYS = (
    "backend", "conversation", "day", "failure_kind", "hour", "model", "month", "profile", "requested_model", "run_id",
    "slot_id", "state", "tag",
)  # fmt: skip
"""What costs can be broken down by; state and failure_kind are those of attempts."""

METRIC_KEYS = (
    "backend", "budget", "conversation", "day", "failure_kind", "hour", "model", "month", "pool_id", "profile",
    "requested_model", "role", "run_id", "slot_id", "state", "tag", "verb",
)  # fmt: skip
"""What metrics can be grouped by, beside the input columns and grid keys of runs; state and failure_kind are those of
tasks."""

USAGE_KEYS = ("cli_version", "day", "hour", "model", "month", "project", "session_id", "sidechain")
"""What Claude Code's own usage can be summed by."""
