"""Text and static HTML of every object; knows no IPython."""
