from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from instatune_deploy.cli import convert_beit3, main
from instatune_deploy.errors import BadInput
from instatune_deploy.supernet.beit3.convert import convert
from instatune_deploy.supernet.beit3.names import HEADS, name_in_checkpoint
from instatune_deploy.supernet.load import from_folder, load_config

from .tiny import images, make_model, official, texts

TWO = {"pixel_values": images(1, 2), "input_ids": texts(1, 3)}
INPUTS = {"none": {"pixel_values": images(1), "input_ids": texts(1, 3)}, "image-classification": {"pixel_values": images(1)}}
INPUTS |= {"vqa": INPUTS["none"], "nlvr2": TWO}
# what microsoft/unilm's modeling_finetune.py has above its encoder
OFFICIAL_HEADS = {
    "none": {
        "encoder.layer_norm.A.weight",
        "encoder.layer_norm.A.bias",
        "encoder.layer_norm.B.weight",
        "encoder.layer_norm.B.bias",
    },
    "image-classification": {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"},
    "vqa": {
        *("pooler.norm.weight", "pooler.norm.bias", "pooler.dense.weight", "pooler.dense.bias"),
        *("head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias", "head.3.weight", "head.3.bias"),
    },
    "nlvr2": {f"head.{part}.{kind}" for part in ("norm1", "dense1", "norm2", "dense2") for kind in ("weight", "bias")}
    | {f"beit3.encoder.layer_norm.{way}.{kind}" for way in "AB" for kind in ("weight", "bias")},
}


def saved(folder: Path, content: Any) -> Path:
    path = folder / "official.pth"
    torch.save(content, path)
    return path


def refused(folder: Path, content: Any, **options: Any) -> str:
    """The one line that says what is wrong; nothing is written."""
    path = saved(folder, content)
    with pytest.raises(BadInput) as caught:
        convert(path, folder / "model", **{"attention_heads": 4, **options})
    assert not (folder / "model").exists()
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("prefix", ["beit3.", ""])
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_what_is_converted_computes_the_same(tmp_path: Path, head: str, prefix: str) -> None:
    made = convert(saved(tmp_path, {"model": official(head, prefix)}), tmp_path / "model", attention_heads=4)
    assert made.head == head
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    model, found = from_folder(HEADS[head].model, tmp_path / "model", load_config(tmp_path / "model"))
    assert not any(found.values())
    expected = make_model(HEADS[head].model)
    assert torch.equal(model.eval()(**INPUTS[head])[0], expected(**INPUTS[head])[0])


@pytest.mark.parametrize("head", HEADS)
def test_names_are_the_official_ones(head: str) -> None:
    prefix = "" if head == "none" else "beit3."
    names = set(official(head, prefix))
    above = {
        name for name in names if not name.startswith((f"{prefix}encoder.layers", f"{prefix}encoder.embed", f"{prefix}vision"))
    }
    assert above - {f"{prefix}text_embed.weight"} == OFFICIAL_HEADS[head]


@pytest.mark.parametrize("head", HEADS)
def test_no_two_tensors_have_one_name(head: str) -> None:
    names = list(make_model(HEADS[head].model).state_dict())
    assert len({name_in_checkpoint(name, HEADS[head], "beit3.") for name in names}) == len(names)


def test_sizes_come_from_the_tensors(tmp_path: Path) -> None:
    state = official("vqa", hidden_size=128, num_attention_heads=2, image_size=12, num_channels=1, num_labels=7)
    config = convert(saved(tmp_path, state), tmp_path / "model").model.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (128, 2, 24)
    assert (config.num_hidden_layers, config.image_size, config.patch_size, config.num_channels) == (2, 12, 4, 1)
    assert (config.vocab_size, config.max_position_embeddings, config.num_labels) == (50, 10, 7)


def test_an_image_classifier_leaves_out_what_only_texts_need(tmp_path: Path) -> None:
    state = official("image-classification")
    both = official("vqa")
    state |= {name: value for name, value in both.items() if name.startswith("beit3.")}
    made = convert(saved(tmp_path, state), tmp_path / "model", attention_heads=4)
    assert set(made.left_out) == {"what only texts need", "the mask token of pre-training"}
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if ".B." in name]


def test_heads_of_pre_training_are_left_out(tmp_path: Path) -> None:
    state = {**official("none"), "mlm_head.weight": torch.zeros(50, 16), "mlm_head.bias": torch.zeros(50)}
    made = convert(saved(tmp_path, state), tmp_path / "model", head="none", attention_heads=4)
    assert made.left_out == ("the mask token of pre-training", "mlm_head (not known here)")


def test_what_a_training_stored(tmp_path: Path) -> None:
    """Weights in half precision beside arguments, optimiser and the rest."""
    state = {name: value.half() for name, value in official("vqa").items()}
    rest = {"args": argparse.Namespace(lr=1e-3), "epoch": 3, "optimizer": {"state": {0: torch.zeros(2)}}}
    for key in ("model", "module"):
        convert(saved(tmp_path, {key: state, **rest}), tmp_path / key, attention_heads=4)
        stored = load_file(tmp_path / key / "model.safetensors")
        assert {value.dtype for value in stored.values()} == {torch.float32}


class Code:
    """Runs something when an ordinary unpickler reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder / "ran"),)


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_is_refused_and_not_run(tmp_path: Path, as_zip: bool) -> None:
    path = tmp_path / "official.pth"
    torch.save({"model": official("vqa"), "more": Code(tmp_path)}, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(BadInput, match=r"official\.pth: holds 'posix\.mkdir'; only tensors and plain values are loaded"):
        convert(path, tmp_path / "model")
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # it would have


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", "c")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("a text"),
        lambda path: path.write_bytes(pickle.dumps({"model": 1.5})[:-3]),
        write_zip,
        lambda path: (torch.save(official("vqa"), path), path.write_bytes(path.read_bytes()[:5000])),
    ],
    ids=["empty", "text", "cut pickle", "other zip", "cut zip"],
)
def test_what_is_no_checkpoint(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    write(tmp_path / "a.pth")
    with pytest.raises(BadInput, match=r"a\.pth: not a PyTorch checkpoint that can be read without running code$"):
        convert(tmp_path / "a.pth", tmp_path / "model")


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a\.pth: no such file$"):
        convert(tmp_path / "a.pth", tmp_path / "model")
    with pytest.raises(BadInput, match=r"a folder, not a checkpoint file$"):
        convert(tmp_path, tmp_path / "model")


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"model: is there already; name a folder that is not"):
        convert(saved(tmp_path, official("vqa")), tmp_path / "model", attention_heads=4)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "a state dict is wanted, the names of tensors with the tensors; found list"),
        ({"model": {"a": 3}}, "a state dict is wanted; 'a' is no tensor of floating-point numbers"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "a state dict is wanted; 'a' is no tensor of floating-point numbers"),
        ({"a": torch.zeros(2)}, "no BEiT-3: none of its 1 tensors has a name that begins with 'beit3.encoder.layers.'"),
    ],
)
def test_what_is_no_beit3(tmp_path: Path, content: Any, says: str) -> None:
    assert refused(tmp_path, content) == says


@pytest.mark.parametrize(
    ("has", "wanted", "says"),
    [
        ("vqa", "nlvr2", "has a head for vqa, not one for nlvr2; --head vqa is right"),
        (
            "image-classification",
            "none",
            "has a head for image-classification, not one for none; --head image-classification is right",
        ),
        ("none", "vqa", "has no head that is known here, not one for vqa; --head none is right"),
    ],
)
def test_a_head_of_another_task(tmp_path: Path, has: str, wanted: str, says: str) -> None:
    assert refused(tmp_path, official(has), head=wanted) == says


LAYER = "beit3.encoder.layers.1"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (f"{LAYER}.ffn.B.fc1.weight", None, f"'{LAYER}.ffn.B.fc1.weight' is missing"),
        ("beit3.text_embed.weight", None, "'beit3.text_embed.weight' is missing"),
        ("head.3.weight", None, "'head.3.weight' is missing"),
        (
            f"{LAYER}.ffn.A.fc1.weight",
            (24, 15),
            f"'{LAYER}.ffn.A.fc1.weight' is 24 x 15; beside the other tensors, 24 x 16 is right",
        ),
        (f"{LAYER}.self_attn.q_proj.B.bias", (4, 4), f"'{LAYER}.self_attn.q_proj.B.bias' is 4 x 4; it should have 1 dimension"),
        ("head.3.bias", (4,), "'head.3.bias' is 4; beside the other tensors, 3 is right"),
        (
            "beit3.vision_embed.proj.weight",
            (16, 3, 4),
            "'beit3.vision_embed.proj.weight' is 16 x 3 x 4; it should have 4 dimensions",
        ),
        ("beit3.vision_embed.proj.weight", (16, 3, 4, 2), "patches of 4 x 2 px; only squares are supported"),
        (
            "beit3.encoder.embed_positions.A.weight",
            (8, 16),
            "'beit3.encoder.embed_positions.A.weight' has 8 rows, which are not 3 more than a square image's",
        ),
        (
            "beit3.encoder.embed_positions.B.weight",
            (12, 8),
            "'beit3.encoder.embed_positions.B.weight' is 12 x 8; beside the other tensors, 12 x 16 is right",
        ),
        (
            "beit3.encoder.embed_positions.B.weight",
            (2, 16),
            "'beit3.encoder.embed_positions.B.weight' has 2 rows, of which none is for a token",
        ),
        ("beit3.encoder.layers.3.ffn.A.fc1.bias", (24,), "has 3 layers, but none of them is layer 2"),
        (f"{LAYER}.gate.weight", (2, 2), f"'{LAYER}.gate.weight' has no place in a BEiT-3 as it is known here"),
        (
            "beit3.encoder.layer_norm.A.weight",
            (16,),
            "'beit3.encoder.layer_norm.A.weight' has no place in a BEiT-3 as it is known here",
        ),
        ("head.5.weight", (2, 2), "'head.5.weight' has no place in a BEiT-3 as it is known here"),
    ],
)
def test_a_tensor_that_is_wrong_is_named(tmp_path: Path, name: str, value: tuple[int, ...] | None, says: str) -> None:
    state = official("vqa")
    if value is None:
        del state[name]
    else:
        state[name] = torch.zeros(value)
    assert refused(tmp_path, state) == says


def test_attention_heads_that_cannot_be(tmp_path: Path) -> None:
    assert refused(tmp_path, official("vqa"), attention_heads=None) == (
        "how many attention heads it has is not in the file, and its hidden size (16) is not made of heads of 64; "
        "say it with --attention-heads"
    )
    said = refused(tmp_path, official("vqa"), attention_heads=3)
    assert said == "3 attention heads: its hidden size (16) is no multiple of that"


def test_the_command(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": official("vqa")})
    target = tmp_path / "model"
    command = ["convert-beit3", str(path), "--output", str(target), "--attention-heads", "4", "--head", "vqa"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "BEiT-3: 2 layers of 4 heads, hidden size 16, MLP 24, images of 8 px, 50 words, texts of up to 10 tokens; "
        "head: vqa, 3 labels",
        "left out: the mask token of pre-training",
        f"written to {target}",
    ]
    assert type(from_folder(HEADS["vqa"].model, target, load_config(target))[0]) is HEADS["vqa"].model
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr) == (2, f"Error: {target}: is there already; name a folder that is not\n")


def test_the_command_knows_every_head() -> None:
    (option,) = [parameter for parameter in convert_beit3.params if parameter.name == "head"]
    assert list(option.type.choices) == list(HEADS)
