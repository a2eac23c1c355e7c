"""VFM-UDA's terms on a small ViT: tokens that are hidden, ranks, resuming in bfloat16, export."""
from copy import deepcopy

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS

from structseg_mmseg.export import export, plain_config
from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.helpers.models import NUM_CLASSES, build, domains, iterate, model_cfg, optim_cfg
from tests.helpers.runs import assert_equal_checkpoints, process_group, runner_cfg, train
from tests.helpers.timm import DINOV2

RANKS = 2
HEAD = dict(type='VFMUDAHead', in_channels=64, num_classes=NUM_CLASSES, align_corners=False,
            loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))


def cfg(with_cp=False, **options) -> dict:
    return model_cfg(
        False, False, decode_head=HEAD,
        backbone=dict(DINOV2, scale=1.1, mask_token=True, with_cp=with_cp,
                      options=dict(DINOV2['options'], img_size=56, **options)),
        terms=dict(
            self_training=dict(type='SelfTraining', threshold=0.3, alpha=0.6, ema_of='state',
                               mirrored=True, classes_of='batch', weak_jitter=True),
            masked=dict(type='MaskedConsistency', tokens=True)))


def test_tokens_are_hidden_in_the_masked_pass_alone():
    model = build(double=False, cfg=cfg()).train()
    wrapper = build_optim_wrapper(model, optim_cfg())
    data = domains(torch.Generator().manual_seed(0), size=50, alike=True)
    batches = model.prepare(data, wrapper)
    assert {name: batch.hidden is not None for name, batch in batches.items()} == dict(
        source=False, target=False, mixed=False, masked=True)
    hidden = batches['masked'].hidden  # of images of 36 x 52, which are resized to 28 x 56
    assert hidden.shape == (50, 2, 4)
    assert abs(hidden.double().mean() - 0.7) < 3 * (0.3 * 0.7 / 400)**0.5
    start = model.backbone.mask_token.detach().clone()
    model.train_step(data, wrapper)
    assert not torch.equal(model.backbone.mask_token, start)
    model.terms['masked'].ratio = 0.
    assert not model.prepare(data, wrapper)['masked'].hidden.any()


def work(rank, folder):
    with process_group(rank, RANKS, folder):
        model = AdaptationDistributedDataParallel(build(cfg=cfg(with_cp=True)).train())
        iterate(model, optim_cfg(), slice(2 * rank, 2 * rank + 2), alike=True)
        torch.save(model.module.state_dict(), f'{folder}/{rank}.pth')


def test_ranks_equal_one_that_sees_all(tmp_path):
    """In float64, recomputing activations; the ranks are identical to the bit."""
    mp.spawn(work, args=(str(tmp_path), ), nprocs=RANKS)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(RANKS))
    model = build(cfg=cfg()).train()
    start = deepcopy(model.state_dict())
    iterate(model, optim_cfg(), alike=True)
    for key, value in model.named_parameters():
        assert not torch.equal(value, start[key]), key
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value.detach(), rtol=0, atol=1e-10, msg=key)


def test_a_resumed_run_in_bfloat16_is_the_same_run(tmp_path, trees):
    """With every file and draw of its own, tokens that are hidden included."""
    options = dict(
        model=cfg(drop_path_rate=0.3), source_batch=2, target_batch=2,
        augment=[dict(type='RandomCrop', crop_size=(32, 48))],
        optim_wrapper=dict(optim_cfg(), type='CPUAmpOptimWrapper', segmentor=dict(
            optimizer=dict(type='AdamW', lr=1e-3))))
    whole, _ = train(runner_cfg(trees, tmp_path / 'whole', 4, **options))
    train(runner_cfg(trees, tmp_path / 'parts', 2, **options))
    resumed, _ = train(runner_cfg(trees, tmp_path / 'parts', 4, resume=True, **options))
    assert_equal_checkpoints(whole, resumed)


def test_export_at_another_size(tmp_path):
    """What a plain EncoderDecoder loads; in both formats to other sizes than that of the trace."""
    pytest.importorskip('onnxruntime')
    trained = build(double=False, cfg=cfg()).eval()
    plain = MODELS.build(plain_config(Config(dict(
        model=cfg(), test_dataloader=dict(dataset=dict(pipeline=[]))))).model).eval()
    plain.load_state_dict({name: value for name, value in trained.state_dict().items()
                           if not name.startswith('terms')}, strict=True)
    x = torch.randn(1, 3, 45, 67)
    assert torch.equal(trained(x), plain(x))
    export(plain, tmp_path, (56, 84))  # compares the logits at a second size
    assert {path.name for path in tmp_path.iterdir()} == {'model.pt2', 'model.onnx'}
