import os
from pathlib import Path
from typing import List, Union

from mmengine.dist import all_reduce_params, master_only
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that a run may be killed in at any moment: ``--resume`` always works.

    A checkpoint and the file ``last_checkpoint`` that names it appear under their names when they
    are complete, and the oldest checkpoint goes when the newest is there, not before. Arguments are
    ``CheckpointHook``'s. Storage other than a local disk is left to its own guarantees.
    """

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        all_reduce_params(runner.model.buffers(), op='mean')
        if not isinstance(self.file_backend, LocalBackend):
            return super()._save_checkpoint_with_step(runner, step, meta)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            # The checkpoint lists one more than is kept: should this run die before it removes that
            # one, mmengine does when the next begins.
            steps = [*self.keep_ckpt_ids, step]
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            outdated = steps[:-self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)
        runner.save_checkpoint(
            self.out_dir,
            f'{name}.part',
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            **self.args)
        self._publish(runner, outdated)

    @master_only
    def _publish(self, runner: Runner, outdated: List[int]) -> None:
        _move(f'{self.last_ckpt}.part', self.last_ckpt)
        pointer = Path(runner.work_dir, 'last_checkpoint')
        part = Path(runner.work_dir, 'last_checkpoint.part')
        part.write_text(self.last_ckpt)
        _move(part, pointer)
        for step in outdated:
            Path(self.out_dir, self.filename_tmpl.format(step)).unlink(missing_ok=True)


def _move(source: Union[str, Path], target: Union[str, Path]) -> None:
    """Move a file whose content is on the disk, so that not even a power cut leaves half of it."""
    with open(source, 'rb') as file:
        os.fsync(file.fileno())
    os.replace(source, target)
