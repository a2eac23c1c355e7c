"""The docs: every command is run by some test, every link resolves."""
import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted(ROOT.glob('docs/*.md')), *sorted(ROOT.glob('configs/*/*.md'))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Prefixes of commands (the longest match counts): the test that runs such a command, or why none
# does.
COMMANDS = {
    'NNODES=2': 'needs two machines',
    'make demo': '.ci/run runs it, shortened',
    'make docs': 'installs mkdocs, from the network',
    'make install': 'make test begins with it',
    'make test': 'runs this',
    'pip install': 'needs the network, and changes the environment',
    'pip-audit': 'asks a service on the network',
    'python -m structseg_mmseg adapt': 'tests/test_adapt.py::test_the_whole_case_of_the_docs',
    'python -m structseg_mmseg train':
        'tests/test_packaging.py::test_a_wheel_trains_in_an_empty_folder',
    'python draw.py': 'tests/test_adapt.py::test_the_whole_case_of_the_docs',
    'python tools/ablation.py':
        'tests/tools/test_ablation.py::test_a_killed_ablation_goes_on_as_if_never_stopped',
    'python tools/analysis_tools/benchmark_step.py':
        'tests/tools/test_tools.py::test_benchmark_step',
    'python tools/analysis_tools/compare.py': 'tests/tools/test_tools.py::test_compare',
    'python tools/check.py': 'tests/tools/test_check.py::test_a_sound_training',
    'python tools/dataset_converters/cache_resized.py':
        'tests/tools/test_tools.py::test_cached_images_are_the_same_bytes',
    'python tools/dataset_converters/count_class_sizes.py':
        'tests/tools/test_count_class_sizes.py::test_it_counts_whole_labels',
    'python tools/export.py': 'tests/tools/test_export.py::test_what_cannot_be_exported',
    'python tools/gpu_report.py':
        'tests/tools/test_gpu_report.py::test_a_report_goes_on_where_it_was',
    'python tools/infer.py': 'tests/tools/test_tools.py::test_infer',
    'python tools/model_converters/adaptsegnet2mmseg.py':
        'tests/tools/test_adaptsegnet2mmseg.py::test_trained_checkpoint',
    'python tools/model_converters/daformer2mmseg.py':
        'tests/tools/test_daformer2mmseg.py::test_student_teacher_and_the_copy_of_imagenet',
    'python tools/model_converters/estimate_statistics.py':
        'tests/tools/test_ablation.py::test_variants_are_what_the_tools_test',
    'python tools/test.py': 'tests/tools/test_tools.py::test_train_and_test',
    'python tools/train.py': 'tests/tools/test_tools.py::test_train_and_test',
    'python tools/train.py $C/': 'takes hours, and needs game2video',
    'python tools/train.py CONFIG --resume':
        'tests/tools/test_tools.py::test_two_ranks_and_one_exchange_checkpoints',
    'python tools/train.py configs/structseg/deeplabv2_r101_gta2cs.py':
        'takes days on a GPU, and needs GTA5 and Cityscapes',
    'python tools/translate.py': 'tests/tools/test_translate.py::test_a_translated_root',
    'tools/dist_test.sh': 'tests/tools/test_tools.py::test_two_ranks_and_one_exchange_checkpoints',
    'tools/dist_train.sh': 'tests/tools/test_tools.py::test_two_ranks_and_one_exchange_checkpoints',
    'tools/slurm_train.sh': 'needs a cluster with Slurm',
}


def commands(page):
    """Commands in shell blocks, continuation lines joined, without comments and assignments."""
    blocks = re.findall(r'^```(\w*)\n(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE)
    for block in [block for language, block in blocks if language in ('', 'bash')]:
        for line in block.replace('\\\n', ' ').splitlines():
            line = ' '.join(re.sub(r'\s+#.*', '', line).split())
            if not re.fullmatch(r'(export )?(\w+=\S+ ?)*', line):
                yield line


ALL = sorted({command for page in PAGES for command in commands(page)})


def row_of(command):
    return max((row for row in COMMANDS if command.startswith(row)), key=len, default=None)


@pytest.mark.parametrize('command', ALL)
def test_a_command_is_run_or_says_why_not(command):
    assert row_of(command), 'give it a row in COMMANDS'
    for target in re.findall(r'^make (\S+)', command):
        assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    for tool in re.findall(r'tools/\S+\.(?:py|sh)', command):
        options = file_of_options(ROOT / tool).read_text()
        for option in re.findall(r'--[a-z][\w-]*', command):
            assert f"'{option}'" in options, option


def file_of_options(tool):
    """The file that defines the options: the tool, or mmseg's if ours wraps it."""
    assert tool.is_file()
    name = tool.stem.split('_')[-1] + '.py'
    if tool.suffix == '.sh' or tool.name in ('train.py', 'test.py'):
        return Path(importlib.util.find_spec('mmseg').origin).parent / '.mim/tools' / name
    return tool


@pytest.mark.parametrize('row', COMMANDS)
def test_a_row_is_used_and_its_test_exists(row):
    assert row in map(row_of, ALL), 'no page has such a command'
    path, is_test, name = COMMANDS[row].partition('::')
    if is_test:
        tool = re.search(r'\w+\.(py|sh)|-m \w+', row)[0].split()[-1]
        assert tool in source_of(ROOT / path, name)  # it runs it


def source_of(path, name):
    """A test's text, with the functions, fixtures and constants of its file that it uses."""
    parts = {}
    for node in ast.parse(path.read_text()).body:
        for key in [node.name] if hasattr(node, 'name') else [
                target.id for target in getattr(node, 'targets', ()) if hasattr(target, 'id')]:
            parts[key] = ast.unparse(node)
    used, left = {name: parts.pop(name)}, [name]
    while left:
        for word in re.findall(r'\w+', used[left.pop()]):
            if word in parts:
                used[word] = parts.pop(word)
                left.append(word)
    return '\n'.join(used.values())


def test_the_tests_command_is_the_one_of_ci():
    assert 'make test' in ALL and '\nmake test\n' in (ROOT / '.ci/run').read_text()


def anchors(page):
    """Anchors of the headings, as git hosts and mkdocs name them."""
    headings = re.findall(r'^#+ (.*)', page.read_text(), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_and_paths(page):
    """Relative links, pictures and paths of the repository resolve."""
    text = page.read_text()
    prose = re.sub(r'^```.*?^```$', '', text, flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r'\]\(([^)\s]+)\)', prose):
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        if not link.startswith('https://'):
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for path in re.findall(r'\b(?:configs|docs|structseg_mmseg|tests|tools)/[\w/-]+\.(?:py|sh|md)',
                           text):
        assert (ROOT / path).is_file(), path


def test_every_page_is_in_the_site():
    pages = re.findall(r'^  - (\S+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.MULTILINE)
    assert sorted(pages) == sorted(path.name for path in ROOT.glob('docs/*.md'))
