import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from structseg_mmseg.models.wrappers import AdaptationDistributedDataParallel
from tests.conftest import ABLATIONS, batch, model_cfg, optim_cfg

RANKS = 2


def build(parts):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    cfg = model_cfg(*parts)
    cfg['data_preprocessor'].update(type='DoublePreProcessor')
    cfg['backbone'].update(norm_eval=True)  # batch statistics are each rank's own
    model = MODELS.build(cfg)
    model.init_weights()
    return model.double().train()


def domains(generator) -> dict:
    data = dict(source=batch(generator, 36, 52, labelled=True, size=RANKS),
                target=batch(generator, 28, 44, labelled=False, size=RANKS))
    for sample in data['source']['data_samples']:
        label = sample.gt_sem_seg.data  # the mean over valid pixels is each rank's own, too
        label[label == 255] = 0
    return data


def train(model, share=slice(None)):
    wrapper = build_optim_wrapper(model, optim_cfg())
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        data = {domain: {key: value[share] for key, value in part.items()}
                for domain, part in domains(generator).items()}
        model.train_step(data, wrapper)


def work(rank, parts, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank,
                            world_size=RANKS)
    torch.set_num_threads(1)
    model = AdaptationDistributedDataParallel(build(parts))
    train(model, slice(rank, rank + 1))
    torch.save(model.module.state_dict(), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.parametrize('ablation', ABLATIONS)
def test_two_ranks_equal_one(ablation, tmp_path):
    """Real processes, no search for unused parameters; the ranks stay identical to the bit."""
    parts = ABLATIONS[ablation]
    mp.spawn(work, args=(parts, str(tmp_path)), nprocs=RANKS)
    model = build(parts)
    train(model)
    one, other = (torch.load(tmp_path / f'{rank}.pth') for rank in range(RANKS))
    for name, value in model.named_parameters():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(one[name], value.detach(), rtol=0, atol=1e-10, msg=name)
    model.load_state_dict(one, strict=True)
