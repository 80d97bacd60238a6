"""The pool's decisions, sans-IO: inputs in, commands out. No clock, no loop, no disk."""
