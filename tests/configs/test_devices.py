"""Every config on devices that this machine may lack, by tensors that have shapes and no data.

What depends on the data cannot be run so: comparisons are true, numbers are 1, lists are of zeros,
and the accuracy that mmseg logs is left out.
"""
import copy
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.models.decode_heads import decode_head
from mmseg.registry import MODELS
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from structseg_mmseg.models.adaptation import View
from tests.helpers import ROOT
from tests.helpers.models import batch
from tests.helpers.passes import run_pass
from tests.helpers.runs import PROCESSES

CONFIGS = [path for path in sorted((ROOT / 'configs').glob('[!_]*/*.py'))
           # CycleGAN's pools choose by values, as does LovaszLoss, which is left out below.
           # Encoders of timm are tried with two methods: they differ in size.
           if not path.stem.startswith('cyclegan') and (path.parent.name != 'vfm_uda' or find_spec(
               'timm') and path.stem in ('vit-b_dinov2_gta2cs_vfm-uda',
                                         'vit-b_dinov3_gta2cs_structseg'))]
if find_spec('timm'):
    import tests.helpers.timm  # noqa: F401  here and in the process below


def without_weights(cfg) -> None:
    for part in cfg.values() if isinstance(cfg, dict) else ():
        without_weights(part)
    if isinstance(cfg, dict):
        cfg.pop('init_cfg', None)
        if cfg.get('type') == 'EfficientNetLite':
            cfg['pretrained'] = False
        losses = cfg.get('loss_decode')
        if isinstance(losses, list):
            cfg['loss_decode'] = [loss for loss in losses if loss['type'] != 'LovaszLoss']


def distinct() -> dict:
    """Configs by name, one of those whose models and batches are equal."""
    chosen, seen = {}, []
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        without_weights(cfg.model)
        key = (cfg.model, cfg.train_dataloader.batch_size)
        if key not in seen:
            seen.append(key)
            chosen[path.stem] = cfg
    return chosen


CHOSEN = distinct()


FAKED = dict(item=lambda x: 1., __bool__=lambda x: True, __int__=lambda x: 1,
             __index__=lambda x: 1, __float__=lambda x: 1.,
             tolist=lambda x: [0. if x.is_floating_point() else 0] * x.numel())


@pytest.fixture
def fakes(monkeypatch):
    for name, value in FAKED.items():
        monkeypatch.setattr(FakeTensor, name, value)
    monkeypatch.setattr(decode_head, 'accuracy', lambda *args, **kwargs: torch.zeros(()))


@pytest.fixture(scope='module')
def process():
    """One in which torch meets the fake accelerator before it has computed anything."""
    with ProcessPoolExecutor(1, PROCESSES, initializer=add_accelerator) as pool:
        yield pool


def add_accelerator() -> None:
    """Give this process a device ``fakegpu``, and a mode in which its tensors compute."""
    init_default_scope('mmseg')
    _setup_privateuseone_for_python_backend('fakegpu')
    mode, device = FakeTensorMode(allow_non_fake_inputs=False), torch.device('fakegpu:0')
    library = torch.library.Library('aten', 'IMPL')

    def empty_strided(size, stride, dtype=None, **options):
        return FakeTensor(mode, torch.empty_strided(size, stride, dtype=dtype, device='meta'),
                          device)

    def empty(size, dtype=None, **options):
        return FakeTensor(mode, torch.empty(size, dtype=dtype, device='meta'), device)

    library.impl('empty_strided', empty_strided, 'PrivateUse1')
    library.impl('empty.memory_format', empty, 'PrivateUse1')
    library.impl('_copy_from', lambda source, target, non_blocking=False: target, 'PrivateUse1')
    for name, value in FAKED.items():
        setattr(FakeTensor, name, value)
    decode_head.accuracy = lambda *args, **kwargs: torch.zeros(())
    ACCELERATOR.update(mode=mode, device=device, library=library)


ACCELERATOR: dict = {}


def move(model: nn.Module, mode, device) -> None:
    """Parameters and buffers become fakes of a device."""
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = nn.Parameter(
                    FakeTensor(mode, torch.empty_like(p, device='meta'), device),
                    requires_grad=p.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(
                    mode, torch.empty_like(buffer, device='meta'), device)


def iterate(name: str, planted: bool = False) -> str:
    """A train step on the accelerator, its update left out; the device of its loss."""
    if planted:
        with patch.object(View, 'image', property(lambda view: view.inputs * torch.ones(3, 1, 1))):
            return iterate(name)
    mode, device = ACCELERATOR['mode'], ACCELERATOR['device']
    cfg = copy.deepcopy(CHOSEN[name])
    for part in cfg.optim_wrapper.values():
        if isinstance(part, dict) and 'optimizer' in part:
            part.optimizer.fused = False
    model = MODELS.build(cfg.model).train()
    move(model, mode, device)
    model.data_preprocessor._device = device
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.update = lambda **kwargs: wrapper.zero_grad() or True
    generator = torch.Generator().manual_seed(0)
    target = (192, 320) if 'mixed' in model.terms.passes else (128, 256)
    data = {domain: batch(generator, *size, labelled=domain == 'source',
                          size=cfg.train_dataloader.batch_size)
            for domain, size in (('source', (192, 320)), ('target', target))}
    for part in data.values():
        part['inputs'] = [mode.from_tensor(image) for image in part['inputs']]
        for sample in part['data_samples']:
            if 'gt_sem_seg' in sample:
                sample.gt_sem_seg.data = mode.from_tensor(sample.gt_sem_seg.data)
    try:
        with mode:
            return str(model.train_step(data, wrapper)['loss'].device)
    except Exception as error:  # which may hold what cannot be sent to another process
        raise RuntimeError(f'{type(error).__name__}: {error}') from None


@pytest.mark.parametrize('name', CHOSEN)
def test_no_tensor_is_left_on_the_cpu(process, name):
    assert process.submit(iterate, name).result() == 'fakegpu:0'


def test_a_tensor_on_the_cpu_is_found(process):
    name = next(name for name, cfg in CHOSEN.items()
                if 'reconstruction' in cfg.model.get('terms', ()))
    with pytest.raises(Exception, match='cpu'):
        process.submit(iterate, name, planted=True).result()


@pytest.fixture
def cuda(monkeypatch):
    """Tensors on ``cuda:0``, which autocast treats as such; images are cut by their last sides."""
    def part(x, key):
        if isinstance(key, tuple) and key[0] is Ellipsis:
            return x.narrow(-2, 0, key[1].stop).narrow(-1, 0, key[2].stop)
        return torch.Tensor.__getitem__(x, key)

    monkeypatch.setattr(FakeTensor, '__getitem__', part)
    return FakeTensorMode(), torch.device('cuda:0')


TERMS = {}
for name, cfg in CHOSEN.items():
    # Fakes on CUDA cannot be indexed, as the size term, CyCADA's gate and mixing do.
    if not any(term['type'] in ('ClassSize', 'SelfTraining') or 'ready_above' in term
               for term in cfg.model.get('terms', {}).values()):
        for term in cfg.model.get('terms', {}).values():
            TERMS.setdefault((term['type'], term.get('of')), name)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', sorted({*TERMS.values()}))
def test_losses_are_float32_in_mixed_precision_on_a_gpu(fakes, cuda, name, dtype):
    """In the forward pass of every term, by CUDA's own rules for autocast."""
    mode, device = cuda
    model = MODELS.build(copy.deepcopy(CHOSEN[name].model)).train()
    for module in model.modules():  # of what fakes on CUDA cannot compute
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    move(model, mode, device)
    model.requires_grad_(False)
    samples = batch(torch.Generator().manual_seed(0), 192, 320, labelled=True)['data_samples']
    for sample in samples:
        sample.gt_sem_seg.data = FakeTensor(
            mode, sample.gt_sem_seg.data.to('meta'), device)
    images = FakeTensor(mode, torch.empty(2, 3, 192, 320, device='meta'), device)
    notes: dict = {}
    losses = {}
    with mode, torch.no_grad(), torch.autocast('cuda', dtype):
        for domain in ('target', 'source'):
            one = run_pass(model, domain, images, samples, notes)
            notes = one.notes
            losses.update({key: value.dtype for key, value in one.losses.items() if 'loss' in key})
    assert {*losses.values()} == {torch.float32}, losses
    assert {key.split('.')[0] for key in losses} >= {
        'decode', *(key for key, term in model.terms.items() if term.trains)}
