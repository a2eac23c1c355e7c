"""Run a tool of the package from any folder.

    python -m structseg_mmseg TOOL [ARGUMENTS ...]
    python -m structseg_mmseg [--configs]

TOOL is the name of a file in ``tools`` or a folder of it, without ``.py``. A CONFIG among its
arguments is a file, or a config of the package by its path or name:
``structseg/segformerhead_lite0_demo.py`` or ``segformerhead_lite0_demo``.
"""
import argparse
import ast
import re
import runpy
import sys
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Dict, List

from structseg_mmseg.errors import InputError, one_sentence_errors

MIM = Path(__file__).with_name('.mim')  # links in a checkout, copies in a wheel
CONFIGS = {path.stem: path for path in sorted(MIM.joinpath('configs').glob('[!_]*/*.py'))}


def docstring(tool: Path) -> str:
    return ast.get_docstring(ast.parse(tool.read_text())) or ''


# Those whose docstrings say how they are called; others are parts of these.
TOOLS = {path.stem: path for path in sorted(MIM.joinpath('tools').rglob('*.py'))
         if f'/{path.name} ' in docstring(path)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog='python -m structseg_mmseg', description=__doc__.splitlines()[0])
    parser.add_argument('tool', nargs='?', help='its name; all are listed if none is given')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help="the tool's own")
    parser.add_argument('--configs', action='store_true', help='list the configs of the package')
    args = parser.parse_args()
    if args.configs:
        for path in CONFIGS.values():
            print(path.relative_to(MIM / 'configs'))
    elif args.tool is None:
        for name, path in TOOLS.items():
            print(f'{name:<20} {docstring(path).splitlines()[0]}')
    else:
        with one_sentence_errors():
            tool = find('tool', args.tool, TOOLS)
            arguments = with_paths(tool, args.arguments)
        # As `python TOOL.py` has them.
        sys.argv, sys.path[0] = [str(tool), *arguments], str(tool.parent)
        runpy.run_path(str(tool), run_name='__main__')


def with_paths(tool: Path, arguments: List[str]) -> List[str]:
    """Put files in the place of configs: of as many arguments as the tool's usage says."""
    usage = re.search(rf'{tool.name} CONFIG( \[CONFIG)?', docstring(tool))
    number = None if usage and usage[1] else int(usage is not None)
    configs = [*takewhile(lambda argument: not argument.startswith('-'), arguments)][:number]
    return [config if Path(config).is_file() else str(find('config', config, CONFIGS))
            for config in configs] + arguments[len(configs):]


def find(kind: str, name: str, among: Dict[str, Path]) -> Path:
    """The file of a tool or config whose path ends with a name, ``.py`` or not."""
    for path in among.values():
        if str(path).endswith(f'/{name.removesuffix(".py")}.py'):
            return path
    near = ', '.join(get_close_matches(Path(name).stem, among)) or 'none is near'
    command = 'python -m structseg_mmseg' + (' --configs' if kind == 'config' else '')
    raise InputError(f'there is no {kind} {name} ({near}): choose one of those that `{command}` '
                     'lists')


if __name__ == '__main__':
    main()
