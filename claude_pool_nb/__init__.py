"""A pool of Claude sessions that lives in a Jupyter notebook.

Example:
    >>> import claude_pool_nb
    >>> claude_pool_nb.__version__
    '0.1.0'
"""

__version__ = "0.1.0"
