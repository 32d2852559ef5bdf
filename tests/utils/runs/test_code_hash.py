import pytest

from utils.runs.code_hash import ROOT, code_sha256, source_files

TREE = {
    "train_A.py": "import os\nimport utils.loop\nfrom nets import unet\n",
    "nets/__init__.py": "",
    "nets/unet.py": "def build():\n    from .parts import block\n",
    "nets/parts.py": "from utils import losses as terms\n",
    "utils/__init__.py": "",
    "utils/loop.py": "import torch\n",
    "utils/losses.py": "",
    "utils/tables.py": "import utils.losses\n",
    "train_B.py": "",
}


@pytest.fixture
def tree(tmp_path):
    for name, text in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", TREE)
def test_the_hash_follows_what_the_training_can_execute_and_nothing_else(tree, name):
    before = code_sha256("A", tree)
    (tree / name).write_text(TREE[name] + "# changed\n")
    assert (code_sha256("A", tree) != before) == (name not in ("utils/tables.py", "train_B.py"))


def test_line_endings_do_not_count_names_do(tree):
    before = code_sha256("A", tree)
    (tree / "train_A.py").write_bytes(TREE["train_A.py"].replace("\n", "\r\n").encode())
    assert code_sha256("A", tree) == before
    (tree / "train_A.py").rename(tree / "train_C.py")
    assert code_sha256("C", tree) != before
    assert code_sha256("method whose script has another name", tree)


def test_of_this_repository():
    names = {path.relative_to(ROOT).as_posix() for path in source_files([ROOT / "train_Ours_MT.py"])}
    assert {"train_Ours_MT.py", "utils/training/loop.py", "utils/losses.py", "networks/unet.py"} <= names
    assert {"dataloaders/augmentation.py", "dataloaders/sampler.py", "utils/style_blending.py"} <= names
    assert not names & {"train_DuCiSC.py", "utils/tables.py", "utils/reports/results.py", "test_2d.py"}
