"""What every term keeps to; a new one joins by a line in TERMS."""
import json
from copy import deepcopy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmseg.models.segmentors import EncoderDecoder

from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.helpers.models import NUM_CLASSES, build, domains, iterate, model_cfg, optim_cfg
from tests.helpers.runs import assert_equal_checkpoints, process_group, runner_cfg, spawn, train

# The config of each term; what is more in its model's goes to MODELS.
TERMS = dict(
    TargetStatistics=dict(),
    Reconstruction=dict(
        decoder=dict(type='ReconstructionDecoder', in_channels=64, stride=8, channels=16,
                     num_blocks=1), loss_weight=1e-3),
    Adversary=dict(discriminator=dict(type='ASPPDiscriminator', channels=4), loss_weight=0.3),
    RegionAdversary=dict(
        discriminator=dict(type='PixelDiscriminator', in_channels=64, channels=(8, ))),
    MinEntropy=dict(loss_weight=0.3),
    Discrepancy=dict(),
    Distillation=dict(),
    ClassSize=dict(),
    # A threshold that small networks exceed here and there.
    PseudoLabels=dict(threshold=0.21),
    SelfTraining=dict(threshold=0.21, classes_of='batch'),
    MaskedConsistency=dict(block=8),
    FeatureDistance=dict(classes=(1, 2), min_ratio=0.2),
)
SECOND_HEAD = ('Discrepancy', )
ALIKE = ('SelfTraining', )  # those that mix images of both domains
SIZES = {f'class {c}': dict(lower=0.01, mean=0.1 * c, upper=0.1 * c + 0.05, images=3)
         for c in range(NUM_CLASSES)}


def cfg_of(folder, *names, **backbone) -> dict:
    """A model with one term, ``term``, or with several."""
    cfg = model_cfg(False, False)
    cfg['backbone'].update(backbone)
    if names == ('MaskedConsistency', ):  # of its own labels there are none
        cfg['terms']['labels'] = dict(TERMS['PseudoLabels'], type='PseudoLabels')
    for name in names:
        term = dict(TERMS[name], type=name)
        if name == 'ClassSize':
            path = folder / 'sizes.json'
            path.write_text(json.dumps(SIZES))
            term['statistics'] = str(path)
        cfg['terms']['term' if len(names) == 1 else name] = term
    if {*names} & {*SECOND_HEAD}:
        cfg['auxiliary_head'] = cfg['decode_head']
    return cfg


CROP = dict(type='RandomCrop', crop_size=(28, 52))


def optim_of(**kwargs) -> dict:
    return optim_cfg(term=dict(optimizer=dict(type='Adam', lr=1e-3)), **kwargs)


@pytest.fixture(params=TERMS)
def name(request):
    return request.param


def test_it_trains_and_resumes_to_the_bit(name, trees, tmp_path):
    def cfg(folder, iterations):
        return runner_cfg(trees, tmp_path / folder, iterations, model=cfg_of(tmp_path, name),
                          optim_wrapper=optim_of(), parts=(True, ),
                          **(dict(augment=[CROP], target_batch=2) if name in ALIKE else {}))
    straight, _ = train(cfg('straight', 4))
    train(cfg('resumed', 2))
    resumed, _ = train(dict(cfg('resumed', 4), resume=True))
    assert_equal_checkpoints(straight, resumed)


def work(rank: int, folder) -> None:
    with process_group(rank, 2, str(folder)):
        for name in TERMS:
            model = AdaptationDistributedDataParallel(
                build(cfg=cfg_of(folder, name, norm_eval=True)).train())
            iterate(model, optim_of(), slice(2 * rank, 2 * rank + 2), name in ALIKE)
            torch.save(model.module.state_dict(), f'{folder}/{name}.{rank}.pth')


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    for name in TERMS:
        cfg_of(folder, name)  # writes what both ranks read
    spawn(work, args=(folder, ), nprocs=2)
    return folder


def test_two_ranks_equal_one_that_sees_all(ranks, name, tmp_path):
    first, second = (torch.load(ranks / f'{name}.{rank}.pth') for rank in range(2))
    model = build(cfg=cfg_of(tmp_path, name, norm_eval=True)).train()
    iterate(model, optim_of(), alike=name in ALIKE)
    for key, value in model.named_parameters():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value.detach(), rtol=0, atol=1e-10, msg=key)


def test_gradients_accumulate(name, tmp_path):
    """One batch twice is one batch."""
    cfg = cfg_of(tmp_path, name, norm_eval=True)
    once = build(cfg=cfg).train()
    twice = deepcopy(once)
    data = domains(torch.Generator().manual_seed(0), alike=name in ALIKE)
    once.train_step(deepcopy(data), build_optim_wrapper(once, optim_of()))
    wrapper = build_optim_wrapper(twice, optim_of(accumulative_counts=2))
    for _ in range(2):
        twice.train_step(deepcopy(data), wrapper)
    for key, value in once.named_parameters():
        torch.testing.assert_close(twice.get_parameter(key), value, rtol=0, atol=1e-10, msg=key)


def test_mixed_precision_keeps_losses_in_float32(name, tmp_path):
    losses = {}
    for precision in (dict(), dict(type='CPUAmpOptimWrapper'),
                      dict(type='CPUAmpOptimWrapper', dtype='float16')):
        model = build(cfg=cfg_of(tmp_path, name), double=False).train()
        seen = {}
        run = model.run_pass
        model.run_pass = lambda one: run(one) or seen.update(one.losses)
        model.train_step(domains(torch.Generator().manual_seed(0), alike=name in ALIKE),
                         build_optim_wrapper(model, dict(optim_of(), **precision)))
        own = {key: value for key, value in seen.items() if key.startswith('term.loss')}
        assert all(value.dtype == torch.float32 for value in own.values())
        losses[len(losses)] = own
    for key, value in losses[0].items():
        for half in (losses[1], losses[2]):
            torch.testing.assert_close(half[key], value, rtol=0.1, atol=0.01, msg=key)


def test_compilation_changes_nothing(tmp_path):
    """All terms in one model, as it takes its time."""
    models = []
    for compiled in (False, True):
        model = build(cfg=cfg_of(tmp_path, *TERMS)).train()
        if compiled:
            model.train_step = torch.compile(model.train_step, backend='eager')
        wrapper = build_optim_wrapper(model, optim_cfg(**{
            name: dict(optimizer=dict(type='SGD', lr=1e-3)) for name in TERMS}))
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            model.train_step(domains(generator, alike=True), wrapper)
        models.append(model)
    torch._dynamo.reset()
    for key, value in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[key], value, rtol=0, atol=1e-10, msg=key)


def test_inference_does_without_it(name, tmp_path):
    """The rest of the state dict is a plain EncoderDecoder's."""
    cfg = cfg_of(tmp_path, name)
    model = build(cfg=deepcopy(cfg), double=False)
    state = {key: value for key, value in model.state_dict().items()
             if not key.startswith(model.training_only)}
    del cfg['terms'], cfg['type']
    EncoderDecoder(**cfg).load_state_dict(state, strict=True)
