import subprocess
import sys
import warnings

import mmengine.logging
import pytest

from structseg_mmseg.noise import LINES, WARNINGS, without_known_noise


def test_an_import_says_nothing():
    """In an interpreter of its own, warnings included."""
    done = subprocess.run([sys.executable, '-W', 'default::UserWarning', '-c',
                           'import structseg_mmseg'], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ('', '')


def test_what_is_not_known_is_shown(capsys):
    with pytest.warns(UserWarning) as caught, pytest.raises(ImportError), without_known_noise():
        mmengine.logging.print_log(LINES[0])
        mmengine.logging.print_log(f'{LINES[0]} today')
        warnings.warn(WARNINGS[0], stacklevel=1)
        warnings.warn('a warning', stacklevel=1)
        raise ImportError
    assert capsys.readouterr().out == f'{LINES[0]} today\n'
    assert [str(warning.message) for warning in caught] == ['a warning']
