"""Check a training before it starts: its data, its model, memory and time.

    python tools/check.py CONFIG [--full] [--cfg-options KEY=VALUE ...]

It opens 20 files of each domain, evenly spread (with ``--full`` all of them), builds the model and
the optimizers, and trains 3 iterations in a temporary folder. Weights that the config names are
loaded, and downloaded if need be, as by the training itself. It ends with ``no problem found``, or
with a numbered list of problems and exit status 1.
"""
import argparse
from pathlib import Path

from mmengine.config import Config, DictAction

from structseg_mmseg.check import check, report
from structseg_mmseg.engine.checkpoint import load_safely
from structseg_mmseg.errors import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', type=Path)
    parser.add_argument('--full', action='store_true', help='open every image and label')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options)
    report(check(cfg, args.full))


if __name__ == '__main__':
    with one_sentence_errors():
        main()
