"""Re-estimate a checkpoint's BatchNorm running statistics on the target (AdaBN, Li et al. 2016).

    python tools/model_converters/estimate_statistics.py CONFIG CHECKPOINT OUT

The images are those of CONFIG's ``statistics_dataloader``, written like ``test_dataloader``, or
else of its ``target_dataloader``; no label is read. OUT holds CHECKPOINT's meta data and weights
(the averaged ones after a training with mmengine's ``EMAHook``) with the new statistics.
"""
import argparse

from mmengine.config import Config
from mmengine.registry import init_default_scope

from structseg_mmseg.engine.adabn import estimate_checkpoint
from structseg_mmseg.engine.checkpoint import load_safely
from structseg_mmseg.errors import one_sentence_errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('out', help='file to write')
    args = parser.parse_args()
    load_safely()
    cfg = Config.fromfile(args.config)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    estimate_checkpoint(cfg, args.checkpoint, args.out)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
