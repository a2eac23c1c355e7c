from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader

from structseg_mmseg.engine.checkpoint import check_fit
from structseg_mmseg.engine.distributed import check_ranks
from structseg_mmseg.engine.runner.adaptation_train_loop import training_loaders
from structseg_mmseg.errors import InputError
from structseg_mmseg.models.wrappers import unwrapped


@HOOKS.register_module()
class InputCheckHook(Hook):
    """Stops a run before its first iteration if data, model and checkpoint do not fit.

    It compares the class counts of all loaders with the head's, loads a sample of each, requires
    target images where the model uses them, and refuses to resume or test with another model's
    weights. All ranks must have as many images and start at the same iteration.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Check the ranks and the loaders of training and validation."""
        loaders = training_loaders(runner)
        if get_world_size() > 1:  # first, as all ranks get as far as this
            # Without a common work dir one of them may have nothing to resume.
            check_ranks({'the first iteration': runner.iter + 1, **{
                f'the number of {domain} images': len(loader.dataset)
                for domain, loader in loaders.items()}})
        model = unwrapped(runner.model)
        if getattr(model, 'adapts', False) and 'target' not in loaders:
            terms = ', '.join(getattr(model, 'terms', ()))
            raise InputError(
                f'model.terms ({terms}) need target images: set target_dataloader, or each of '
                'them to None' if terms else
                f'a {type(model).__name__} needs target images: set target_dataloader')
        for domain, loader in loaders.items():
            _check_loader(model, domain, loader)
        if runner.val_loop is not None:
            _check_loader(model, 'validation', runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Check the test loader."""
        _check_loader(unwrapped(runner.model), 'test', runner.test_dataloader)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare keys and shapes, unless the weights only initialise a training."""
        trains = isinstance(runner._train_loop, BaseLoop)  # built by train(), not by test()
        if runner._resume or not trains:
            check_fit(unwrapped(runner.model), checkpoint, runner._load_from)


def _check_loader(model: Any, domain: str, loader: DataLoader) -> None:
    classes = getattr(loader.dataset, 'metainfo', {}).get('classes', ())
    num_classes = getattr(model, 'num_classes', None)  # a translator has none
    if classes and num_classes and len(classes) != num_classes:
        raise InputError(f'the {domain} data has {len(classes)} classes where decode_head has '
                         f'{num_classes}: set model.decode_head.num_classes, or metainfo.classes '
                         'of the data set')
    if 'inputs' not in loader.dataset[0]:  # raises InputError itself if its files are bad
        raise InputError(f'the pipeline of the {domain} data gives no inputs: end it with '
                         'PackSegInputs')
