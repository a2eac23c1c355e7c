from itertools import islice
from typing import Dict, Iterator, Union

from mmengine.dataset import InfiniteSampler
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.registry import LOOPS
from torch.utils.data import DataLoader

from structseg_mmseg.errors import InputError


@LOOPS.register_module()
class AdaptationTrainLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` with a second, independent loader for the target.

    The source comes from ``train_dataloader``, the target from the config's ``target_dataloader``,
    written like it and absent (or None) where nothing adapts. Each iteration hands the model
    ``dict(source=batch, target=batch)``. On resume both loaders go on where they stopped; what
    they skip is not read.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader or dict): The source's.
        **kwargs: As in ``IterBasedTrainLoop``: ``max_iters``, ``val_interval``, ...
    """

    def __init__(self, runner: Runner, dataloader: Union[DataLoader, dict], **kwargs) -> None:
        super().__init__(runner, dataloader, **kwargs)
        self.dataloaders = dict(source=self.dataloader)
        target = runner.cfg.get('target_dataloader')
        if target is not None:
            # Another seed than the source's: the same one would shuffle data sets of equal size
            # alike, and each source image would meet one target image for ever.
            self.dataloaders['target'] = runner.build_dataloader(target, seed=runner.seed + 1)
        for domain, loader in self.dataloaders.items():
            if not isinstance(loader.sampler, InfiniteSampler):
                key = 'train_dataloader' if domain == 'source' else 'target_dataloader'
                raise InputError(f'{key}.sampler must be an InfiniteSampler, the only one that two '
                                 'loaders of different lengths can be resumed with')

    def run(self) -> None:
        """Launch training, from where the runner resumed, if it did."""
        self.dataloader_iterator = _DomainBatches(self.dataloaders, consumed=self._iter)
        return super().run()


class _DomainBatches:
    """Endless ``dict(source=batch, target=batch)``, beginning behind ``consumed`` of them.

    mmengine's loop discards what a resumed run has consumed, one by one or, in later versions,
    through :meth:`skip_iter`. Here the samplers have skipped it already, and the loop is handed
    placeholders to discard.
    """

    def __init__(self, dataloaders: Dict[str, DataLoader], consumed: int) -> None:
        self._placeholders = consumed
        for loader in dataloaders.values():
            sampler = loader.sampler
            sampler.indices = islice(
                sampler._indices_of_rank(), consumed * loader.batch_size, None)
        self._iterators: Dict[str, Iterator] = {
            domain: iter(loader) for domain, loader in dataloaders.items()}

    def skip_iter(self, num_iters: int) -> None:
        self._placeholders -= num_iters

    def __next__(self) -> 'Dict[str, dict] | None':
        if self._placeholders > 0:
            self._placeholders -= 1
            return None
        return {domain: next(batches) for domain, batches in self._iterators.items()}
