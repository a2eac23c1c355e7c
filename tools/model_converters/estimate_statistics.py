"""Re-estimate a checkpoint's BatchNorm running statistics on the target (AdaBN, Li et al. 2016).

    python tools/model_converters/estimate_statistics.py CONFIG CHECKPOINT OUT

The images are those of CONFIG's ``statistics_dataloader``, written like ``test_dataloader``, or
else of its ``target_dataloader``; no label is read. OUT holds CHECKPOINT's meta data and weights
(the averaged ones after a training with mmengine's ``EMAHook``) with the new statistics.
"""
import argparse
import os

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader, save_checkpoint, weights_to_cpu
from mmseg.registry import MODELS
from rich.progress import track

from structseg_mmseg.engine.adabn import build_statistics_dataloader, estimate_statistics
from structseg_mmseg.engine.checkpoint import check_fit, load_safely
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
    dataloader = build_statistics_dataloader(cfg)
    model = MODELS.build(cfg.model)
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    check_fit(model, checkpoint, args.checkpoint)
    state = checkpoint.get('state_dict', checkpoint)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    model.load_state_dict(state, strict=False)  # what only training uses may be absent
    estimate_statistics(model.to(get_device()), track(dataloader, 'estimating statistics'))
    ours = weights_to_cpu(model.state_dict())
    state = {key: ours.get(key, value) for key, value in state.items()}
    # It gets its name once it is complete.
    save_checkpoint(dict(meta=checkpoint.get('meta', {}), state_dict=state), f'{args.out}.part')
    os.replace(f'{args.out}.part', args.out)


if __name__ == '__main__':
    with one_sentence_errors():
        main()
