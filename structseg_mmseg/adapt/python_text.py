from typing import Any

WIDTH = 100  # of a line


def assignment(key: str, value: Any) -> str:
    """Python text that sets a name to a value of a config."""
    return f'{key} = {_text(value, len(key) + 3, 0)}'


def _text(value: Any, column: int, indent: int) -> str:
    """A value as text that begins at a column, on one line if it fits."""
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        opening, closing, items = 'dict(', ')', [(f'{key}=', item) for key, item in value.items()]
    elif isinstance(value, dict):
        opening, closing, items = '{', '}', [(f'{key!r}: ', item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [('', item) for item in value]
    else:
        return repr(value)
    if isinstance(value, tuple) and len(value) == 1:
        closing = ', )'
    inside = ', '.join(name + _text(item, 0, -1) for name, item in items)
    # A negative indent is for text that is to be on one line.
    if indent < 0 or column + len(opening + inside + closing) < WIDTH:
        return opening + inside + closing
    lines = [' ' * (indent + 4) + name + _text(item, indent + 4 + len(name), indent + 4)
             for name, item in items]
    return opening + '\n' + ',\n'.join(lines) + closing
