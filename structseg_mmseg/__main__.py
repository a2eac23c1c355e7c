"""Run a tool of the package from any folder.

A config of the package may be given by its name, such as ``segformer_effnet-lite0_demo``.
"""
import argparse
import ast
import runpy
import sys
from pathlib import Path

from structseg_mmseg.errors import MIM, configs

TOOLS = {path.stem: path for path in sorted(MIM.joinpath('tools').rglob('*.py'))}


def main() -> None:
    docs = {name: ast.get_docstring(ast.parse(path.read_text())) for name, path in TOOLS.items()}
    summaries = (f'  {name:<20} {(text or name).splitlines()[0]}' for name, text in docs.items())
    parser = argparse.ArgumentParser(
        prog='python -m structseg_mmseg', description=__doc__,
        epilog='\n'.join(['tools:', *summaries]),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tool', nargs='?', choices=TOOLS, metavar='TOOL', help='one of those below')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help="the tool's own (--help)")
    parser.add_argument('--configs', action='store_true', help='list the configs of the package')
    args = parser.parse_args()
    if args.configs:
        print('\n'.join(configs()))
    elif args.tool is None:
        parser.print_help()
    else:
        tool = TOOLS[args.tool]
        known = configs()
        arguments = [str(MIM / known[argument])
                     if argument in known and not Path(argument).exists() else argument
                     for argument in args.arguments]
        # As `python TOOL.py` has them.
        sys.argv, sys.path[0] = [str(tool), *arguments], str(tool.parent)
        runpy.run_path(str(tool), run_name='__main__')


if __name__ == '__main__':
    main()
