"""Performs the core's commands on an event loop."""
