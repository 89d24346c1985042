"""The library's own source on a page, so that a chapter never holds a second copy."""

import ast
import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def code(function: Callable) -> str:
    """Return the source of a function without its docstring."""
    text = textwrap.dedent(inspect.getsource(function))
    lines, node = text.splitlines(), ast.parse(text).body[0]
    if ast.get_docstring(node) is not None:
        del lines[node.body[0].lineno - 1 : node.body[0].end_lineno]
    return "\n".join(lines)


def show(*functions: Callable) -> Markdown:
    """Return the functions' sources as one block for a notebook, each under the place where it is written."""
    parts = [f"# {f.__module__}.{f.__qualname__}\n{code(f)}" for f in functions]
    return Markdown("```python\n" + "\n\n".join(parts) + "\n```")
