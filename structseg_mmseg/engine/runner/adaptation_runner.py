import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmseg.registry import RUNNERS

# How the records begin that nobody reads in a terminal; the log file has them.
FOR_THE_FILE = ('\n' + '-' * 60 + '\nSystem environment:', 'Config:\n', 'Hooks will be executed',
                'paramwise_options -- ', 'Distributed training is not used, all SyncBatchNorm',
                '"HardDiskBackend" is the alias of "LocalBackend"',
                '"FileClient" will be deprecated', 'The prefix is not set in metric class')


@RUNNERS.register_module()
class AdaptationRunner(Runner):
    """``Runner`` whose terminal shows what people look for; its log file has everything."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """As ``Runner``'s, with a filter on what it writes to the terminal."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_for_the_terminal)
        return logger


def _for_the_terminal(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(FOR_THE_FILE)
