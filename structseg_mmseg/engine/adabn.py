"""BatchNorm statistics re-estimated on unlabelled images (AdaBN, Li et al. 2016)."""
from copy import deepcopy
from typing import Iterable

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader, weights_to_cpu
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from rich.progress import track
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from structseg_mmseg.engine.checkpoint import check_fit, write_checkpoint
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.adaptation.batch_statistics import live_norms


def estimate_statistics(model: BaseSegmentor, dataloader: Iterable[dict]) -> None:
    """Replace the running statistics of batch normalisation by those of other images.

    Each becomes the average over the batches of their means and unbiased variances, with all else
    as in inference. Layers whose statistics training keeps (``norm_eval``, ``frozen_stages``) and
    those that inference does not run, such as an auxiliary head's, stay as they are. The model is
    in eval mode afterwards.

    Args:
        model (BaseSegmentor): Any segmentor of mmseg.
        dataloader (Iterable[dict]): Batches as a loader collates them, with or without labels.

    Raises:
        InputError: If inference runs no layer whose statistics are live in training.
    """
    norms = nn.ModuleList(live_norms(model.train()))
    before = [deepcopy(norm.state_dict()) for norm in norms]
    model.eval()

    def forward(batch: dict) -> None:
        batch = model.data_preprocessor(batch, False)
        model.encode_decode(
            batch['inputs'], [sample.metainfo for sample in batch['data_samples']])

    # What update_bn resets and puts into training mode.
    norms.forward = forward
    update_bn(dataloader, norms)
    model.eval()
    unseen = [(norm, state) for norm, state in zip(norms, before) if not norm.num_batches_tracked]
    for norm, state in unseen:
        norm.load_state_dict(state)
    if len(unseen) == len(norms):
        raise InputError('the model has no batch normalisation whose statistics could be '
                         'estimated: set model.backbone.norm_eval=False, or take a backbone or '
                         'head with norm_cfg.type=BN')


def build_statistics_dataloader(cfg: Config) -> DataLoader:
    """The images to estimate statistics on, each read once, in order.

    Args:
        cfg (Config): Its ``statistics_dataloader``, written like ``test_dataloader`` (labels are
            not needed), or else its ``target_dataloader``.

    Returns:
        DataLoader: Its batches are what :func:`estimate_statistics` takes.

    Raises:
        InputError: If the config has neither.
    """
    dataloader = cfg.get('statistics_dataloader') or cfg.get('target_dataloader')
    if dataloader is None:
        raise InputError('the config has neither statistics_dataloader nor target_dataloader: set '
                         'statistics_dataloader, written like test_dataloader')
    return Runner.build_dataloader(
        dict(dataloader, sampler=dict(type='DefaultSampler', shuffle=False)))


def estimate_checkpoint(cfg: Config, checkpoint: str, out: str) -> None:
    """Write a checkpoint with other running statistics, and all else as it was.

    Args:
        cfg (Config): Config of the model, and of the images, as
            :func:`build_statistics_dataloader` takes them.
        checkpoint (str): The file to read.
        out (str): The file to write.

    Raises:
        InputError: As :func:`estimate_statistics`, and if the checkpoint is of another model.
    """
    dataloader = build_statistics_dataloader(cfg)
    # At the top level, where a runner finds it, too.
    model = MODELS.build({'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model})
    saved = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    check_fit(model, saved, checkpoint)
    write_estimated(model, saved, dataloader, out)


def write_estimated(model: BaseSegmentor, saved: dict, dataloader: DataLoader, out: str) -> None:
    """Write a checkpoint as :func:`estimate_checkpoint` does, of one that is loaded.

    Args:
        model (BaseSegmentor): A model that it fits, which gets its weights.
        saved (dict): The checkpoint.
        dataloader (DataLoader): See :func:`build_statistics_dataloader`.
        out (str): The file to write.

    Raises:
        InputError: As :func:`estimate_statistics`.
    """
    state = saved.get('state_dict', saved)
    state = {key.removeprefix('module.'): value for key, value in state.items()}
    model.load_state_dict(state, strict=False)  # what only training uses may be absent
    estimate_statistics(model.to(get_device()), track(dataloader, 'estimating statistics'))
    ours = weights_to_cpu(model.state_dict())
    state = {key: ours.get(key, value) for key, value in state.items()}
    write_checkpoint(state, out, saved.get('meta'))
