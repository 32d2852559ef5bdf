"""Every flag is read by some code and has help with a default; wrong command lines are refused."""

import ast
import importlib
import re
import shlex

import pytest

SCRIPTS = ["train_Ours_MT", "train_Ours_BCP", "train_DuCiSC"]


def name_of(node):
    """The last name of `args`, `self.args`, ...; None for other code."""
    return getattr(node, "id", getattr(node, "attr", None))


def constants(node):
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]


def flags_read(node):
    """The flags that this code reads: args.<flag>, getattr(args, "<flag>", ...), config["flags"].get("<flag>")."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Load) and name_of(part.value) == "args":
            yield part.attr
        elif isinstance(part, ast.Call) and name_of(part.func) == "getattr" and name_of(part.args[0]) == "args":
            yield part.args[1].value
        elif isinstance(part, ast.Call) and name_of(part.func) == "get" and "flags" in constants(part.func):
            yield part.args[0].value


def dead_flags(root, script, text):
    """The flags that nothing reads on the way from main() of this script, whose source is `text`, after parsing."""
    sources = [path.read_text() for folder in ("utils", "dataloaders") for path in (root / folder).rglob("*.py")]
    code = {}  # of every function and class at the top of a module, by name
    for node in (node for source in (*sources, text) for node in ast.parse(source).body):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            code.setdefault(node.name, []).append(node)
    reached, waiting, read = {"parse_args"}, ["main"], set()
    while waiting:
        name = waiting.pop()
        if name in code and name not in reached:
            for node in code[name]:
                waiting += map(name_of, ast.walk(node))
                read.update(flags_read(node))
        reached.add(name)
    return sorted(vars(importlib.import_module(script).parse_args([])).keys() - read)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_dead_flags(root, script):
    assert dead_flags(root, script, (root / f"{script}.py").read_text()) == []


@pytest.mark.parametrize(
    "script, used, dead",
    [
        ("train_Ours_MT", "blend_of_step", ["blend"]),  # which alone reads the flag of its part
        ("train_Ours_MT", "make_memories", ["memory_size"]),
        ("train_Ours_BCP", "args.ema_decay", ["ema_decay"]),
        ("train_DuCiSC", "args.threshold", ["threshold"]),
        ("train_DuCiSC", "args.num_proto", ["num_proto"]),
        ("train_DuCiSC", "args.val_cases", ["val_cases"]),
    ],
)
def test_a_flag_that_a_script_adds_and_does_not_use_is_found(root, script, used, dead):
    text = (root / f"{script}.py").read_text()
    assert used in text and dead_flags(root, script, text.replace(used, "nothing")) == dead


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_help_with_its_default(script, monkeypatch):
    from utils import cli

    seen = []
    original = cli.Parser.add_argument_group

    def spy(self, *args, **kwargs):
        group = original(self, *args, **kwargs)
        seen.append(group)
        return group

    monkeypatch.setattr(cli.Parser, "add_argument_group", spy)
    importlib.import_module(script).parse_args([])
    actions = {action.dest: action for group in seen for action in group._group_actions if action.dest != "help"}
    without = [dest for dest, action in actions.items() if not action.help or "(default: " not in action.help]
    assert without == []


def test_commands_in_docstrings_keep_their_line_breaks(root):
    """A backslash at a line's end joins lines in a string unless it is doubled."""
    paths = [*root.glob("*.py"), *(root / "scripts").glob("*.py")]
    docs = {path.name: ast.get_docstring(ast.parse(path.read_text())) or "" for path in paths}
    joined = [name for name, text in docs.items() if re.search(r"^    python .* {8,}--", text, re.M)]
    assert len(docs) > 15 and joined == []


MT, BCP, DUCISC = "train_Ours_MT", "train_Ours_BCP", "train_DuCiSC"
WHOLE, ABOVE_0, FROM_0 = "must be a whole number from", "must be a number above 0", "must be a number of at least 0"
PREDICT = "--predict {file} --weights {file}"
# Script, wrong arguments, words of the one line that refuses them; {file} and {folder} exist, {file} is empty.
WRONG = [
    # numbers out of their range, or none
    (MT, "--seed 4294967296", "--seed: must be a whole number from 0 to 4,294,967,295, got '4294967296'"),
    (MT, "--seed -1", f"--seed: {WHOLE} 0"),
    (MT, "--seed 1.5", f"--seed: {WHOLE} 0"),
    (MT, "--base_lr -1", f"--base_lr: {ABOVE_0}, got '-1'"),
    (MT, "--base_lr 0", f"--base_lr: {ABOVE_0}"),
    (MT, "--base_lr nan", f"--base_lr: {ABOVE_0}, got 'nan'"),
    (MT, "--base_lr inf", f"--base_lr: {ABOVE_0}"),
    (MT, "--base_lr 1e999", f"--base_lr: {ABOVE_0}"),
    (MT, "--base_lr fast", f"--base_lr: {ABOVE_0}, got 'fast'"),
    (MT, "--memory_size -1", f"--memory_size: {WHOLE} 1"),
    (MT, "--memory_size 0", f"--memory_size: {WHOLE} 1"),
    (MT, "--consistency -0.1", f"--consistency: {FROM_0}"),
    (MT, "--consistency nan", f"--consistency: {FROM_0}"),
    (MT, "--contrast_weight=-inf", f"--contrast_weight: {FROM_0}"),
    (MT, "--ema_decay 1", "--ema_decay: must be a number of at least 0 and below 1, got '1'"),
    (MT, "--ema_decay -0.5", "--ema_decay: must be a number of at least 0 and below 1"),
    (MT, "--consistency_rampup -1", f"--consistency_rampup: {FROM_0}"),
    (MT, "--consistency_rampup inf", f"--consistency_rampup: {FROM_0}"),
    (MT, "--ramp_until 0.5", f"--ramp_until: {WHOLE} 0"),
    (MT, "--ramp_until -150", f"--ramp_until: {WHOLE} 0"),
    (MT, "--batch_size 0", f"--batch_size: {WHOLE} 1"),
    (MT, "--batch_size 1000000000", f"--batch_size: {WHOLE} 1 to 65,536"),
    (MT, "--labeled_bs -2", f"--labeled_bs: {WHOLE} 1"),
    (MT, "--labelnum 0", f"--labelnum: {WHOLE} 1"),
    (MT, "--labeled_cases 0", f"--labeled_cases: {WHOLE} 1"),
    (MT, "--max_iterations 1e4", f"--max_iterations: {WHOLE} 1"),
    (MT, "--max_iterations 99999999999999999999", f"--max_iterations: {WHOLE} 1 to 1,000,000,000"),
    (MT, "--val_interval 0", f"--val_interval: {WHOLE} 1"),
    (MT, "--save_interval -5", f"--save_interval: {WHOLE} 1"),
    (MT, "--log_interval 0", f"--log_interval: {WHOLE} 1"),
    (MT, "--num_workers -1", f"--num_workers: {WHOLE} 0"),
    (MT, "--num_workers 100000", f"--num_workers: {WHOLE} 0 to 512"),
    (MT, "--gpu -1", f"--gpu: {WHOLE} 0"),
    (MT, "--gpu all", f"--gpu: {WHOLE} 0"),
    (MT, "--holdout_cases 0 --protocol holdout", f"--holdout_cases: {WHOLE} 1"),
    (MT, "--patch_size 0 0", f"--patch_size: {WHOLE} 1"),
    (MT, "--patch_size 40 40", "--patch_size 40 40: each must be divisible by 16"),
    (MT, "--patch_size 32", "expected 2 arguments"),
    (BCP, "--u_weight -1", f"--u_weight: {FROM_0}"),
    (BCP, "--pretrain_iterations 0", f"--pretrain_iterations: {WHOLE} 1"),
    (BCP, "--memory_size 1.5", f"--memory_size: {WHOLE} 1"),
    (DUCISC, "--threshold 1", "--threshold: must be a number of at least 0 and below 1"),
    (DUCISC, "--threshold -0.5", "--threshold: must be a number of at least 0 and below 1"),
    (DUCISC, "--num_proto 5", "--num_proto: invalid choice: 5"),
    (DUCISC, "--fused_weight nan", f"--fused_weight: {FROM_0}"),
    (DUCISC, "--proto_weight -1", f"--proto_weight: {FROM_0}"),
    (DUCISC, "--fused_proto_weight inf", f"--fused_proto_weight: {FROM_0}"),
    (DUCISC, "--warmup_iterations -1", f"--warmup_iterations: {WHOLE} 0"),
    (DUCISC, "--val_start 0", f"--val_start: {WHOLE} 1"),
    (DUCISC, "--val_cases 0", f"--val_cases: {WHOLE} 1"),
    (DUCISC, "--val_stride 0 4", f"--val_stride: {WHOLE} 1"),
    (DUCISC, "--val_stride 113 4", "--val_stride 113 4: windows of 112 112 80 voxels would leave gaps"),
    (DUCISC, "--patch_size 16 16 16", "--val_stride 18 4: windows of 16 16 16 voxels would leave gaps"),
    (DUCISC, "--patch_size 32 32", "--patch_size 32 32: LA needs 3 numbers"),
    ("test_2d", "--output_dir {folder} --spacing 1 0 1", "--spacing: must be a size in mm from 0.001 to 1000"),
    ("test_2d", "--output_dir {folder} --spacing 1 nan 1", "--spacing: must be a size in mm from 0.001 to 1000"),
    ("test_2d", "--output_dir {folder} --batch_size 0", f"--batch_size: {WHOLE} 1"),
    ("test_3d", "--output_dir {folder} --stride 0 0", f"--stride: {WHOLE} 1"),
    ("test_3d", "--output_dir {folder} --gpu -2", f"--gpu: {WHOLE} 0"),
    ("scripts.make_phantom", "--out new --shape 0 0 0", f"--shape: {WHOLE} 1"),
    ("scripts.make_phantom", "--out new --shape 1 1 1", "--shape 1 1 1: H and W must have at least 8 voxels here"),
    ("scripts.make_phantom", "--out new --name LA --shape 4 40 40", "--shape 4 40 40: every axis must have at least 8"),
    ("scripts.make_phantom", "--out new --layout nifti --shape 8 8 8", "H and W must have at least 16 voxels here"),
    ("scripts.make_phantom", "--out new --train 0", f"--train: {WHOLE} 1"),
    ("scripts.make_phantom", "--out new --test -1", f"--test: {WHOLE} 0"),
    ("scripts.make_phantom", "--out new --few -1", f"--few: {WHOLE} 0"),
    ("scripts.make_phantom", "--out new --seed -1", f"--seed: {WHOLE} 0"),
    ("scripts.make_phantom", "--out new --name LA --train 81", "--train 81: LA has 80 cases in its train list"),
    ("scripts.prepare", "--name LA --source {folder} --out new --seed 4294967296", f"--seed: {WHOLE} 0"),
    ("scripts.prepare", "--name LA --source {folder} --out new --num_workers -1", f"--num_workers: {WHOLE} 0"),
    ("scripts.prepare", "--name Mine --source {folder} --out new --split 70 -10 20", f"--split: {WHOLE} 0"),
    ("scripts.prepare", "--name Mine --source {folder} --out new --split 0 50 50", "the training must not be 0"),
    ("scripts.check_dataset", "--name LA --num_workers 1000", f"--num_workers: {WHOLE} 0 to 512"),
    ("scripts.benchmark", "--repeats 0", f"--repeats: {WHOLE} 1"),
    ("scripts.benchmark", "--patch_size 30 30", "--patch_size 30 30: each must be divisible by 16"),
    ("scripts.benchmark", "--volume_size 30 32 32", "--volume_size 30 32 32: each must be divisible by 16"),
    ("scripts.benchmark", "--batch_size 6", "--batch_size 6: copy-paste pairs quarters of the batch"),
    ("scripts.reproduce", "spc-acdc --seeds 11", f"--seeds: {WHOLE} 1 to 10"),
    ("scripts.reproduce", "spc-acdc --seeds 1,x", f"--seeds: {WHOLE} 0"),
    ("scripts.reproduce", "spc-acdc --seeds ,", f"--seeds: {WHOLE} 0"),
    ("scripts.reproduce", "spc-acdc --gpus -1", f"--gpus: {WHOLE} 0"),
    # names and paths
    (MT, "--exp ../../x", "--exp: must be part of a folder's name"),
    (MT, "--exp a/b", "--exp: must be part of a folder's name"),
    (MT, "--exp 'a b'", "--exp: must be part of a folder's name"),
    (MT, "--exp a..b", "--exp: must be part of a folder's name"),
    (MT, r"--exp a\\b", "--exp: must be part of a folder's name"),
    (MT, "--exp " + "a" * 101, "--exp: must be part of a folder's name: up to 100 letters"),
    (MT, "--exp ''", "--exp: a value is empty"),
    (MT, "--exp=", "--exp: a value is empty"),
    (MT, "--root_path ''", "--root_path: a value is empty"),
    (MT, "--output_dir {file}", "--output_dir: {file} is a file, name a folder"),
    (MT, "--output_dir {file}/runs", "{file} is a file, not a folder"),
    (MT, "--output_dir " + "a" * 256, "a name is longer than 255 bytes"),
    (MT, "--name ../ACDC", "unknown dataset '../ACDC'"),
    (MT, "--name LA", "--name LA: a 3-D dataset"),
    (MT, "--preset none", "--preset: invalid choice: 'none'"),
    (MT, "--lr 0.1", "unrecognized arguments: --lr 0.1"),
    (BCP, "--pretrained {folder}", "--pretrained {folder}: no such file"),
    ("test_2d", "--output_dir {file}", "--output_dir {file}: a file, name the folder that holds it"),
    ("test_2d", "--output_dir nowhere", "--output_dir nowhere: no such folder"),
    ("test_2d", f"{PREDICT} --out {{file}}", "--out: {file} is a file, name a folder"),
    ("scripts.make_phantom", "--out {file}", "--out: {file} is a file, name a folder"),
    ("scripts.prepare", "--name LA --source {folder} --out {file}", "--out: {file} is a file, name a folder"),
    ("scripts.check_dataset", "--name LA --out {folder}", "--out: {folder} is a folder, name a file"),
    ("scripts.check_dataset", "--name LA --out page.txt", "--out page.txt: the page's name must end with .html"),
    ("scripts.make_tables", "{folder} --out {folder}", "--out: {folder} is a folder, name a file"),
    ("scripts.make_tables", "{folder} --out {file}/a.md", "{file} is a file, not a folder"),
    ("scripts.make_tables", "nowhere", "nowhere: no such folder"),
    ("scripts.measure_coverage", "--out {file}", "--out: {file} is a file, name a folder"),
    ("scripts.plot_run", "nowhere", "nowhere: no such folder"),
    ("scripts.plot_run", "{folder}", "{folder}: no metrics.jsonl"),
    ("scripts.reproduce", "spc-acdc --output_dir {file}", "--output_dir: {file} is a file, name a folder"),
    ("scripts.reproduce", "spc-mnist", "no target spc-mnist"),
    # flags that contradict each other
    (MT, "--labelnum 10 --labeled_cases 4", "--labeled_cases says which cases are labelled; leave --labelnum out"),
    (MT, "--labeled_cases 4 --labelnum 5", "--labelnum: --labeled_cases says"),  # the default, but typed
    (MT, "--holdout_cases 2", "--holdout_cases: only --protocol holdout takes cases out of training"),
    (MT, "--preset baseline --blend beta", "--preset baseline sets --blend off, not beta: leave one out"),
    (MT, "--memory_size 8 --preset memory-32", "--preset memory-32 sets --memory_size 32, not 8: leave one out"),
    (MT, "--consistency_rampup 200 --ramp_until 300", "--ramp_until: not allowed with argument --consistency_rampup"),
    (MT, "--ramp_until 30000 --consistency_rampup 200", "not allowed with argument --ramp_until"),
    (MT, "--batch_size 4 --labeled_bs 4", "--labeled_bs 4 must be less than --batch_size 4"),
    (BCP, "--batch_size 6 --labeled_bs 3", "copy-paste pairs quarters of the batch"),
    (BCP, "--stage pretrain --pretrained {file}", "--pretrained starts self-training, --stage pretrain has none"),
    (DUCISC, "--preset fixed-threshold --threshold 0", "--preset fixed-threshold sets --threshold 0.5, not 0.0"),
    (DUCISC, "--net unet_ds", "--net: network 'unet_ds' is 2-D, not 3-D"),
    (DUCISC, "--proto_features decoder", "--proto_features decoder: only --net unet_ds offers the choice, not ducisc"),
    (DUCISC, "--name ACDC --val_stride 16 16", "--val_stride: slices are validated whole"),
    ("test_2d", "", "required: --output_dir (or --predict and --weights)"),
    ("test_2d", "--output_dir {folder} --weights {file}", "--weights: only with --predict"),
    ("test_2d", "--output_dir {folder} --out predictions", "--out: only with --predict"),  # the default, but typed
    ("test_2d", "--predict {file}", "--predict needs --weights FILE"),
    ("test_2d", f"{PREDICT} --unit voxel --figures", "--unit --figures: for a test, not with --predict"),
    ("test_2d", "--output_dir {folder} --spacing 1 1 1 --unit voxel", "--spacing gives distances in mm, not"),
    ("test_3d", "--output_dir {folder} --one_pass", "--one_pass: only with --predict"),
    ("scripts.make_phantom", "--out new --name LA --val 2", "--val: LA has no validation list"),
    ("scripts.make_phantom", "--out new --layout transunet", "--layout transunet is Synapse's"),
    ("scripts.make_tables", "{folder} --format csv --out a.html", "--out a.html: --format csv ends with .csv"),
    ("scripts.make_tables", "{folder} --out a.tex", "--out a.tex: --format markdown ends with .md"),
    ("scripts.measure_coverage", "--out new --weights {file}", "not allowed with argument --out"),
    ("scripts.prepare", "--name LA --source {folder} --out new --split 70 10 20", "--split is Custom's"),
    ("scripts.prepare", "--name LA --source {folder} --out new --slice_axes xy", "--slice_axes is Synapse's"),
    ("scripts.prepare", "--name Mine --source {folder} --out new --check {folder}", "--check compares with published"),
    ("scripts.reproduce", "", "name tables to make, or runs to --verify"),
    ("scripts.reproduce", "spc-acdc --verify {folder}", "name tables to make, or runs to --verify"),
    ("scripts.reproduce", "--verify {folder} --smoke --gpus 2", "--smoke --gpus: not with --verify"),
    ("scripts.reproduce", "spc-acdc --slurm slurm_partition=gpu", "--slurm is for --launcher slurm"),
]  # fmt: skip


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder to work in, with {file} and {folder} of a command line elsewhere."""
    places = {"file": tmp_path / "file", "folder": tmp_path / "folder"}
    places["file"].touch()
    places["folder"].mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("DATASET_HOME", raising=False)
    return places


@pytest.mark.parametrize("script, line, words", WRONG, ids=[f"{script} {line}"[:90] for script, line, _ in WRONG])
def test_a_wrong_command_line_is_one_line_and_writes_nothing(script, line, words, empty, capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(script).main(shlex.split(line.format(**empty)))
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.out == ""
    assert words.format(**empty) in captured.err and captured.err.count("\n") == 1
    assert {*tmp_path.rglob("*")} == {*empty.values(), tmp_path / "work"}


RIGHT = [
    (MT, "--preset baseline --blend beta --exp beta", {"blend": "beta", "contrast": "off", "preset": "baseline"}),
    (MT, "", {"consistency_rampup": 200, "labelnum": 5, "seed": 1337, "memory_size": 128}),
    (MT, "--seed 4294967295", {"seed": 2**32 - 1}),
    (MT, "--base_lr 1e-3 --consistency 0 --ema_decay 0", {"base_lr": 1e-3, "consistency": 0.0, "ema_decay": 0.0}),
    (MT, "--exp Lr-0.001_b --output_dir a/b/c", {"exp": "Lr-0.001_b", "output_dir": "a/b/c"}),
    (MT, "--labeled_cases 4", {"labeled_cases": 4}),
    (MT, "--protocol holdout --holdout_cases 2", {"holdout_cases": 2}),
    (MT, "--preset baseline --blend off --memory_size 8", {"preset": "baseline", "blend": "off", "memory_size": 8}),
    (MT, "--consistency_rampup 7", {"consistency_rampup": 7}),
    (MT, "--consistency_rampup 200.0", {"consistency_rampup": 200}),
    (MT, "--consistency_rampup 0.44", {"consistency_rampup": 0.44}),
    (MT, "--consistency_rampup 0", {"consistency_rampup": 0}),
    (MT, "--ramp_until 66", {"consistency_rampup": 0.44}),
    (MT, "--ramp_until 30000", {"consistency_rampup": 200}),
    (BCP, "--ramp_until 0 --stage self --pretrained {file}", {"consistency_rampup": 0, "stage": "self"}),
    (BCP, "--name ACDC --preset memory-64 --batch_size 8 --labeled_bs 4", {"memory_size": 64}),
    (DUCISC, "--name LA --labelnum 7 --val_stride 112 80 --threshold 0.99", {"labelnum": 7, "threshold": 0.99}),
    (DUCISC, "--name ACDC --patch_size 64 64", {"patch_size": [64, 64]}),
    (DUCISC, "--name Pancreas --patch_size 16 16 16", {"patch_size": [16, 16, 16]}),
    ("test_2d", "--output_dir {folder} --spacing 1 1 10 --unit mm", {"spacing": [1.0, 1.0, 10.0]}),
    ("test_2d", f"{PREDICT} --save_probabilities", {"out": "predictions", "name": None}),
    ("test_3d", "--output_dir {folder} --stride 18 4 --nms", {"stride": [18, 4], "name": "LA"}),
    ("scripts.make_phantom", "--out new --shape 1 8 8 --test 0 --val 0", {"shape": [1, 8, 8], "val": 0}),
    ("scripts.prepare", "--name Mine --source {folder} --out new --split 100 0 0", {"split": [100, 0, 0]}),
    ("scripts.prepare", "--name LA --source {folder} --out new --check {folder} --check new", {"label_flip": None}),
    ("scripts.check_dataset", "--name LA --num_workers 2", {"num_workers": 2}),
    ("scripts.make_tables", "{folder} {folder} --format latex --out a.tex", {"format": "latex"}),
    ("scripts.make_tables", "{folder} --out table.txt", {"format": "markdown"}),
    ("scripts.measure_coverage", "--out new", {"weights": None}),
    ("scripts.benchmark", "--only steps --volume_size 112 112 80", {"volume_size": [112, 112, 80]}),
    ("scripts.reproduce", "spc-acdc --seeds 5,7 --launcher slurm --slurm a=1", {"seeds": [5, 7], "gpus": 1}),
    ("scripts.reproduce", "--verify {folder} {folder}", {"targets": []}),
    ("scripts.plot_run", "{folder}", {}),
]


@pytest.mark.parametrize("script, line, values", RIGHT, ids=[f"{script} {line}"[:90] for script, line, _ in RIGHT])
def test_a_right_command_line_is_understood(script, line, values, empty):
    args = vars(importlib.import_module(script).parse_args(shlex.split(line.format(**empty))))
    found = {name: args[name] for name in values}
    assert repr(found) == repr(values) and "ramp_until" not in args  # repr: 200 is not 200.0
