"""Draw the demo data: two street worlds in GTA5's and Cityscapes' layouts.

    python tools/dataset_converters/draw_demo.py [ROOT] [--source N] [--target N] [--val N]
"""
import argparse
from pathlib import Path

from rich.progress import track

from structseg_mmseg.demo.street_worlds import draw_worlds
from structseg_mmseg.errors import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('root', type=Path, nargs='?', default=Path('data/demo'),
                        help='folder to fill (default: %(default)s)')
    parser.add_argument('--source', type=int, default=300, help='images of the source')
    parser.add_argument('--target', type=int, default=300, help='images of the target to train on')
    parser.add_argument('--val', type=int, default=60, help='images of the target to test on')
    parser.add_argument('--seed', type=int, default=0, help='equal seeds draw equal files')
    args = parser.parse_args()
    images = draw_worlds(args.root, args.source, args.target, args.val, args.seed)
    for _ in track(images, 'drawing', args.source + args.target + args.val):
        pass


if __name__ == '__main__':
    with one_sentence_errors():
        main()
