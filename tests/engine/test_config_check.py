from numbers import Number

import pytest
from mmengine.config import Config
from mmseg.registry import RUNNERS

from structseg_mmseg.engine.config_check import _parts, check_config
from structseg_mmseg.errors import InputError, one_sentence_errors
from tests.helpers import ROOT
from tests.helpers.runs import runner_cfg

CONFIGS = sorted(ROOT.glob('configs/[!_]*/*.py'))


def set_key(cfg, key, value):
    *path, last = (int(part) if part.isdigit() else part for part in key.split('.'))
    for part in path:
        cfg = cfg[part]
    cfg[last] = value


# Which of a config's dicts are to be mutated: these keys of them are this package's.
MUTATED = dict(
    AdaptationSegmentor=('terms', 'steps', 'batch_statistics', 'channels_last'),
    AdvReconSegmentor=('terms', 'steps', 'batch_statistics', 'channels_last'),
    DeepLabV2Head=('in_channels', 'dilations'), EfficientNetLite=('output_stride', ),
    Reconstruction=('decoder', 'loss_weight'),
    ReconstructionDecoder=('in_channels', 'stride', 'channels', 'num_blocks', 'in_index'),
    Adversary=('discriminator', 'loss_weight', 'mode', 'size', 'of'),
    RegionAdversary=('discriminator', 'loss_weight'), ASPPDiscriminator=('channels', 'dilations'),
    FCDiscriminator=('channels', ), PixelDiscriminator=('channels', 'dropout'),
    MinEntropy=('loss_weight', ), Distillation=('encoder', 'loss_weight'),
    ClassSize=('statistics', ),
    SelfTraining=('threshold', 'alpha', 'ema_at', 'mirrored', 'loss_weight', 'jitter'),
    FeatureDistance=('classes', 'min_ratio', 'loss_weight'),
    MaskedConsistency=('block', 'ratio', 'loss_weight'),
    RareClassSampling=('statistics', 'temperature', 'min_pixels', 'min_crop_ratio'),
    DAFormerHead=('in_channels', 'channels', 'dilations'),
    CycleGAN=('generator', 'discriminator', 'crop_size'), PanelHook=('interval', ),
    GTADataset=('img_suffix', ))


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
            with pytest.raises(InputError, match=f'^unknown key {full}s of {part["type"]}: '):
                check_config(cfg)
            mutations += 1
            del part[f'{key}s']
            part[key] = value
    check_config(cfg)
    assert mutations > 10


@pytest.mark.parametrize('key,value,says', [
    ('model.terms.adversary.loss_weight', 'abc', "is 'abc': give float from 0 upwards"),
    ('model.terms.adversary.loss_weight', -1, 'is -1: give float from 0 upwards'),
    ('model.terms.adversary.loss_weight', float('nan'), 'is nan: give float from 0 upwards'),
    ('model.terms.adversary.discriminator.dilations', 7, 'is 7: give Sequence[int from 1 upwards]'),
    ('model.terms.adversary.discriminator.dilations', [1, 0], 'is [1, 0]: give Sequence[int from'),
    ('model.terms.adversary.discriminator.dilations', [], 'is []: give Sequence[int from 1'),
    ('model.terms.adversary.discriminator.dilations', '', "is '': give Sequence[int from 1"),
    ('model.terms.adversary.discriminator.dilatons', [1], 'of ASPPDiscriminator: did you mean '
                                                          'dilations?'),
    ('model.terms.adversry', dict(loss_weight=1), 'has no type: give it one, set the term to None'),
    ('model.terms.adversary.type', 'Advrsary', 'Advrsary is not in the mmseg::model registry: '),
    ('model.steps', [dict(passes=['targets'])], '.0.passes is ['),
    ('model.steps', [dict(parts='segmentor')], ".0.parts is 'segmentor': give Optional[Sequence["),
    ('model.steps', [dict(part=['segmentor'])], '.0.part of Step: did you mean parts?'),
    ('model.term', None, 'of AdvReconSegmentor: did you mean terms?'),
    ('target_dataloder', dict(), 'target_dataloder: did you mean target_dataloader?'),
    ('custom_hooks.0.interval', 3, 'of InputCheckHook: its keys are []'),
    ('train_cfg.max_itrs', 3, 'of AdaptationTrainLoop: did you mean max_iters?'),
    ('train_cfg.max_unreadable', -1, 'is -1: give int from 0 upwards'),
    ('target_dataloader.dataset.data_rot', 'x', 'of CityscapesLabelIdsDataset: did you mean '
                                                'data_root?'),
    ('target_dataloader.dataset.data_prefix', {}, 'data_prefix has no img_path: name the folder'),
    ('train_dataloader.dataset.ann_file', 'none.txt', 'there is no list'),
])
def test_a_wrong_setting_is_one_sentence(trees, tmp_path, key, value, says):
    sentence = start(trees, tmp_path, key, value)
    assert says in sentence
    assert key in sentence or says.startswith((' ', 'there', 'data_prefix', 'Advrsary'))


def start(trees, tmp_path, key, value):
    """What two iterations with a key changed say."""
    cfg = Config(runner_cfg(trees, tmp_path / 'work', 2, runner_type='AdaptationRunner'))
    set_key(cfg, key, value)
    with pytest.raises(SystemExit) as stop, one_sentence_errors():
        RUNNERS.build(cfg).train()
    assert stop.value.code.startswith('error: ') and '\n' not in stop.value.code
    return stop.value.code


def test_a_pipeline_that_packs_nothing(trees, tmp_path):
    sentence = start(trees, tmp_path, 'target_dataloader.dataset.pipeline', [])
    assert sentence == ('error: the pipeline of the target data gives no inputs: end it with '
                        'PackSegInputs')


def test_a_work_dir_that_cannot_be(trees, tmp_path):
    (tmp_path / 'file').write_text('')
    sentence = start(trees, tmp_path, 'work_dir', str(tmp_path / 'file/deep'))
    assert str(tmp_path / 'file') in sentence and 'give another' in sentence
