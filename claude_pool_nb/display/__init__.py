"""Text and static HTML of every object; knows no IPython.

Each object has a text that stands alone (terminals, screen readers, saved notebooks without trust) and HTML that means
the same without scripts, style sheets or SVG. What changes from run to run (times, ids) is marked, so that notebooks
can be compared; text of a model is always escaped.
"""
