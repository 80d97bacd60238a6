"""The live view: what a cell shows while it waits, and the static line that it leaves behind."""
