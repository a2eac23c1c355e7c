from numbers import Number

import pytest
from mmengine.config import Config
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.config_check import _parts, check_config
from structseg_mmseg.errors import InputError, one_sentence_errors
from tests.conftest import ROOT
from tests.engine.test_adaptation_train_loop import runner_cfg
from tests.engine.test_adaptation_train_loop import trees  # noqa: F401

CONFIGS = sorted(ROOT.glob('configs/[!_]*/*.py'))


def set_key(cfg, key, value):
    *path, last = (int(part) if part.isdigit() else part for part in key.split('.'))
    for part in path:
        cfg = cfg[part]
    cfg[last] = value


# Which of a config's dicts are to be mutated: these keys of them are this package's.
MUTATED = dict(
    AdvReconSegmentor=('terms', 'steps', 'batch_statistics', 'channels_last'),
    DeepLabV2Head=('in_channels', 'dilations'), EfficientNetLite=('output_stride', ),
    Reconstruction=('decoder', 'loss_weight'),
    ReconstructionDecoder=('in_channels', 'stride', 'channels', 'num_blocks', 'in_index'),
    Adversary=('discriminator', 'loss_weight', 'mode', 'size', 'of'),
    RegionAdversary=('discriminator', 'loss_weight'), ASPPDiscriminator=('channels', 'dilations'),
    FCDiscriminator=('channels', ), PixelDiscriminator=('channels', 'dropout'),
    MinEntropy=('loss_weight', ), Distillation=('encoder', 'loss_weight'),
    ClassSize=('statistics', ), CycleGAN=('generator', 'discriminator', 'crop_size'),
    PanelHook=('interval', ), GTADataset=('img_suffix', ))


@pytest.mark.parametrize('path', CONFIGS, ids=[path.stem for path in CONFIGS])
def test_configs_of_the_package_and_what_is_near_them(path):
    """Each passes, and no longer does with a key misspelt or a value of another kind."""
    cfg = Config.fromfile(path).to_dict()
    check_config(cfg)
    mutations = 0
    for name, part in list(_parts(cfg, '')):
        for key in MUTATED.get(part['type'], ()):
            if part.get(key) is None:
                continue
            value, full = part.pop(key), f'{name}.{key}'
            number = isinstance(value, Number) and not isinstance(value, bool)
            for wrong in (object(), [None], 3j, *(['1', -7.5] if number else [])):
                part[key] = wrong
                with pytest.raises(InputError, match=f'^{full} is '):
                    check_config(cfg)
                mutations += 1
            del part[key]
            part[f'{key}s'] = value
            with pytest.raises(InputError, match=f'^{full}s is no key of {part["type"]}: '):
                check_config(cfg)
            mutations += 1
            del part[f'{key}s']
            part[key] = value
    check_config(cfg)
    assert mutations > 10


@pytest.mark.parametrize('key,value,says', [
    ('model.terms.adversary.loss_weight', 'abc', "is 'abc': give float, at least 0"),
    ('model.terms.adversary.loss_weight', -1, 'is -1: give float, at least 0'),
    ('model.terms.adversary.discriminator.dilations', 7, 'is 7: give Sequence[int], at least 1'),
    ('model.terms.adversary.discriminator.dilations', [1, 0], 'is [1, 0]: give Sequence[int]'),
    ('model.terms.adversary.discriminator.dilatons', [1], 'is no key of ASPPDiscriminator: correct '
                                                          'it to dilations'),
    ('model.terms.adversry', dict(loss_weight=1), 'give it a type, set it to None, or correct its'),
    ('model.terms.adversary.discriminator.dilations', [], 'is []: give Sequence[int], at least 1'),
    ('model.terms.adversary.discriminator.dilations', '', "is '': give Sequence[int], at least 1"),
    ('model.decode_head.align_corners', 2, 'is 2: give bool'),
    ('model.decode_head.loss_decode', [], 'is empty: name a loss'),
    ('model.test_cfg', [1], 'is [1]: give Optional[dict]'),
    ('model.batch_statistics', 'other', "choose 'both' or 'target' or 'per_domain'"),
    ('model.steps', [dict(passes=['targets'])], '.0.passes is ['),
    ('model.steps', [dict(passes=[])], '.0.passes is empty: name target'),
    ('model.steps', [dict(parts=[['segmentor']])], '.0.parts is ['),
    ('model.steps', [dict(part=['segmentor'])], '.0.part is no key of Step: correct it to parts'),
    ('model.loss_adv', dict(loss_weight=1), 'has moved: set model.terms.adversary'),
    ('train_dataloader.batch_size', 0, 'is 0: give int, at least 1'),
    ('target_dataloader.batch_size', 1.5, 'is 1.5: give int, at least 1'),
    ('target_dataloder', dict(), 'is no key of a config: correct it to target_dataloader'),
    ('custom_hooks.0.interval', 3, 'is no key of InputCheckHook'),
    ('param_scheduler.0.power', 'abc', "is 'abc': give float"),
    ('param_scheduler.0.powr', 0.9, 'is no key of PolyLR: correct it to power'),
    ('optim_wrapper.adversary.optimizer.betas', 0.9, 'is 0.9: give '),
    ('optim_wrapper.adversary.optimizer.type', 'ADAM', "is 'ADAM', which no optimizer has for "),
    ('optim_wrapper.adversary.optimizer.type', 'abc', "is 'abc', which no optimizer has for "),
    ('optim_wrapper', {}, 'has neither an optimizer nor a constructor'),
    ('target_dataloader.dataset.data_prefix', {}, ' has no img_path: name the folder'),
    ('optim_wrapper.adversary.optimizer.type', '', "is '', which no optimizer has for a name"),
    ('optim_wrapper.adversary.optimizer', [1], 'is [1]: give dict'),
    ('param_scheduler.0', [1], 'is [1]: give dict'),
    ('param_scheduler.0.type', None, 'is None: give str'),
    ('model', None, 'is missing: say what is to be trained'),
    ('model.data_preprocessor', None, 'is missing: name one, such as SegDataPreProcessor'),
    ('train_cfg', dict(max_iters=1), '.type is missing: name a loop'),
    ('optim_wrapper.segmentor', dict(
        optimizer=dict(type='Adam'), paramwise_cfg=dict(bias_lr_mult=2)),
     '.optimizer.lr is missing: paramwise_cfg multiplies it'),
    ('optim_wrapper.segmentor.paramwise_cfg', -1, 'is -1: give Optional[dict]'),
    ('train_dataloader.num_workers', -1, 'is -1: give int, at least 0'),
    ('train_dataloader.num_wokers', 2, 'is no key of DataLoader: correct it to num_workers'),
    ('train_dataloader.dataset.pipeline', True, 'is True: give List[Union[dict, Callable]]'),
    ('train_cfg.max_itrs', 3, 'is no key of AdaptationTrainLoop: correct it to max_iters'),
    ('train_cfg.max_iters', [1], 'is [1]: give float'),
    ('train_cfg', None, 'is missing: train_cfg, train_dataloader, optim_wrapper come together'),
    ('custom_hooks', 1.5, 'is 1.5: give Optional[List[Union[Hook, Dict]]]'),
    ('train_dataloader.dataset.ann_file', 'none.txt', 'there is no list'),
])
def test_a_wrong_setting_is_one_sentence(trees, tmp_path, key, value, says):  # noqa: F811
    sentence = start(trees, tmp_path, key, value)
    assert says in sentence
    assert any(name in sentence for name in (key, 'ann_file', 'data_prefix has'))


@pytest.mark.parametrize('key,value,says', [
    ('optim_wrapper.adversary.optimizer.lr', -1, "Adam says 'Invalid learning rate: -1"),
    ('model.backbone.depth', 17, 'ResNet says '),
    ('model.backbone', dict(type='DeepLabResNet', depth=50, norm_cfg=dict(requires_grad=False)),
     "DeepLabResNet says 'the cfg dict must contain the key"),
    ('model.backbone.no_such_key', 1, 'ResNet says '),
    ('model.data_preprocessor.mean', 'abc', 'SegDataPreProcessor says '),
    ('param_scheduler.0', dict(type='LinearLR', start_factor=0, by_epoch=False),
     "LinearLR says 'float division by zero'"),
    ('model.terms.reconstruction.decoder.in_channels', 3, 'model.terms.reconstruction.decoder.'
     'layers.0.conv takes 3 channels and gets 64: set in_channels in the config'),
    ('randomness', dict(sed=1), 'AdaptationRunner says '),
    ('train_dataloader.sampler.shuffles', True, 'InfiniteSampler says '),
])
def test_other_packages_parts_speak_for_themselves(trees, tmp_path, key, value, says):  # noqa: F811
    assert says in start(trees, tmp_path, key, value)


def start(trees, tmp_path, key, value):  # noqa: F811
    """What two iterations with a key changed say."""
    cfg = Config(runner_cfg(trees, tmp_path / 'work', 2, runner_type='AdaptationRunner'))
    set_key(cfg, key, value)
    with pytest.raises(SystemExit) as stop, one_sentence_errors():
        RUNNERS.build(cfg).train()
    assert stop.value.code.startswith('error: ') and '\n' not in stop.value.code
    return stop.value.code


def test_a_loader_of_nothing(trees, tmp_path):  # noqa: F811
    sentence = start(trees, tmp_path, 'target_dataloader', dict(batch_size=1))
    assert 'target_dataloader.dataset is missing' in sentence


def test_a_pipeline_that_packs_nothing(trees, tmp_path):  # noqa: F811
    sentence = start(trees, tmp_path, 'target_dataloader.dataset.pipeline', [])
    assert sentence == ('error: the pipeline of the target data gives no inputs: end it with '
                        'PackSegInputs')


def test_a_work_dir_that_cannot_be(trees, tmp_path):  # noqa: F811
    (tmp_path / 'file').write_text('')
    sentence = start(trees, tmp_path, 'work_dir', str(tmp_path / 'file/deep'))
    assert str(tmp_path / 'file') in sentence and 'give another' in sentence
