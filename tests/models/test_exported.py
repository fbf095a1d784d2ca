"""Exported programs: read without torch's loader, the same answers, and nothing of the file runs."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_ai.core.errors import ArchError, FormatError, NonFiniteError, SecureAIError
from secure_ai.files.open import FileBytes
from secure_ai.files.pt2 import read_pt2
from secure_ai.files.sniff import Format, sniff
from secure_ai.models.load.exported import ExportedNetwork
from secure_ai.models.load.store import load_model

FIXTURES = Path(__file__).parent.parent / "files" / "fixtures"
ANY, FOUR, TRAIN = (FIXTURES / f"torch_2_13_{kind}.pt2" for kind in ("any", "four", "train"))
TOP = ANY.stem


def images() -> torch.Tensor:
    return torch.linspace(0, 1, 6 * 64).view(6, 1, 8, 8) ** 2


@pytest.mark.parametrize("path", [ANY, FOUR])
def test_answers_and_gradients_are_those_of_the_network_that_was_exported(path: Path) -> None:
    expected = json.loads((FIXTURES / "pt2_outputs.json").read_text())
    loaded = load_model(path)
    pixels = images().requires_grad_()
    answer = loaded.network(pixels)
    torch.testing.assert_close(answer, torch.tensor(expected["answers"]))
    (gradient,) = torch.autograd.grad(answer[:, 1].sum(), pixels)
    torch.testing.assert_close(gradient.sum((1, 2, 3)), torch.tensor(expected["gradient_sums"]))
    assert float(gradient.abs().max()) > 0
    assert (loaded.format, loaded.arch, loaded.num_classes, loaded.user_code) == ("pt2", "pt2", 4, False)


def test_both_exports_have_the_digest_of_their_weights_and_only_a_fixed_batch_is_noted() -> None:
    free, four = load_model(ANY), load_model(FOUR)
    assert free.digest == four.digest
    assert free.notes == ()
    assert "exactly 4 images" in four.notes[0]
    assert sorted(free.network.state_dict()) == sorted(
        ["body.0.bias", "body.0.weight", "body.1.bias", "body.1.num_batches_tracked", "body.1.running_mean",
         "body.1.running_var", "body.1.weight", "head.bias", "head.weight", "mean"]
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 4, 5])
def test_a_fixed_batch_is_filled_up_and_the_filling_changes_nothing(count: int) -> None:
    free, four = load_model(ANY).network, load_model(FOUR).network
    torch.testing.assert_close(four(images()[:count]), free(images()[:count]))


def test_other_images_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\)"):
        load_model(ANY).network(torch.zeros(2, 1, 9, 9))


def test_training_mode_is_refused_with_the_remedy() -> None:
    with pytest.raises(SecureAIError) as caught:
        load_model(TRAIN)
    assert caught.value.code == "E_FORMAT"
    assert "model.eval()" in caught.value.hint


def test_arch_is_not_taken() -> None:
    with pytest.raises(ArchError) as refused:
        load_model(ANY, arch="report1-cnn")
    assert (refused.value.expected, refused.value.got) == ("none", "report1-cnn")


# --- what a hostile file may try --------------------------------------------------------------------------------------


def changed(change: Callable[[dict[str, bytes]], None]) -> FileBytes:
    """The good file with its members changed, as a sound archive again."""
    with zipfile.ZipFile(ANY) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return FileBytes("m.pt2", stream.getvalue())


def in_json(part: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        content = json.loads(members[f"{TOP}/{part}"])
        change(content)
        members[f"{TOP}/{part}"] = json.dumps(content).encode()

    return apply


def in_graph(change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    return in_json("models/model.json", lambda model: change(model["graph_module"]))


def in_node(number: int, **values: Any) -> Callable[[dict[str, bytes]], None]:
    return in_graph(lambda module: module["graph"]["nodes"][number].update(values))


def in_weight(**values: Any) -> Callable[[dict[str, bytes]], None]:
    table = "data/weights/model_weights_config.json"
    return in_json(table, lambda content: content["config"]["head.weight"].update(values))


def put(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({f"{TOP}/{name}": content})


def in_meta(**values: Any) -> Callable[[dict[str, bytes]], None]:
    table = "data/weights/model_weights_config.json"
    return in_json(table, lambda content: content["config"]["head.weight"]["tensor_meta"].update(values))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('the file ran')",))


def test_the_good_file_survives_its_repacking_and_the_sample_inputs_are_never_opened() -> None:
    bomb = changed(put("data/sample_inputs/model.pt", pickle.dumps(Bomb())))
    assert sniff(bomb.content) is Format.PT2
    program = read_pt2(bomb)
    assert len(program.graph.nodes) > 5
    assert ExportedNetwork(program).eval()(images()).shape == (6, 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (in_weight(use_pickle=True), "pickled"),
        (in_weight(path_name="../../weight_0"), "without its values"),
        (in_weight(path_name="weight_99"), "without its values"),
        (in_meta(sizes=[{"as_int": 400}, {"as_int": 27}]), "beyond its values"),
        (in_meta(sizes=[{"as_int": 1 << 39}, {"as_int": 27}], strides=[{"as_int": 0}, {"as_int": 0}]), "far larger"),
        (in_meta(storage_offset={"as_int": 5}), "beyond its values"),
        (in_meta(dtype=6), "unsupported type"),
        (in_meta(sizes="[1]"), "no number"),
        (in_node(0, target="torch.hub.load"), "not allowed"),
        (in_node(0, target="os.system"), "not allowed"),
        (in_node(0, target="torch.ops.aten.from_file.default"), "not allowed"),
        (in_node(0, target="_operator.attrgetter"), "not allowed"),
        (in_node(0, target=["torch.ops.aten.relu.default"]), "not allowed"),
        (in_node(5, inputs=[{"name": "self", "arg": {"as_graph": {}}, "kind": 1}]), "another kind"),
        (in_node(5, inputs=[{"name": "self", "arg": {"as_tensor": {"name": "nobody"}}, "kind": 1}]), "no earlier"),
        (in_graph(lambda m: m["graph"].update(nodes=[{}] * 30_000)), "too long"),
        (in_graph(lambda m: m["signature"]["input_specs"].append({"custom_obj": {"arg": {}}})), "no tensor"),
        (in_graph(lambda m: m["signature"]["output_specs"].append({"buffer_mutation": {"arg": {}}})), "own state"),
        (in_graph(lambda m: m["signature"]["output_specs"].append(m["signature"]["output_specs"][0])), "several"),
        (put("data/constants/custom_obj_0", b"x"), "a member that is not read"),
        (put("models/second.json", b"{}"), "a member that is not read"),
        (put("data/aotinductor/model/a.so", b"\x7fELF"), "a member that is not read"),
        (put("byteorder", b"big"), "unknown variant"),
        (put("models/model.json", b"[]"), "no object"),
        (put("models/model.json", b"{"), "not JSON"),
        (put("data/weights/weight_0", b""), "without its values|beyond"),
    ],
)
def test_what_is_no_plain_classifier_is_refused(change: Callable[[dict[str, bytes]], None], told: str) -> None:
    with pytest.raises(SecureAIError, match=told):
        read_pt2(changed(change))


def test_weights_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NonFiniteError):
        read_pt2(changed(put("data/weights/weight_0", b"\xff" * 108)))


def write_into(members: dict[str, bytes]) -> None:
    node = {
        "target": "torch.ops.aten.add_.Tensor",
        "inputs": [
            {"name": "self", "arg": {"as_tensor": {"name": "p_head_bias"}}, "kind": 1},
            {"name": "other", "arg": {"as_tensor": {"name": "p_head_bias"}}, "kind": 1},
        ],
        "outputs": [{"as_tensor": {"name": "grown"}}],
        "metadata": {},
    }
    in_graph(lambda module: module["graph"]["nodes"].append(node))(members)


def test_a_graph_that_writes_into_its_weights_is_refused() -> None:
    with pytest.raises(FormatError) as refused:
        read_pt2(changed(write_into))
    assert "p_head_bias" in refused.value.got


def repeated(members: dict[str, bytes]) -> None:
    node = {
        "target": "torch.ops.aten.repeat.default",
        "inputs": [
            {"name": "self", "arg": {"as_tensor": {"name": "x"}}, "kind": 1},
            {"name": "repeats", "arg": {"as_ints": [1, 1 << 20, 1 << 10, 1]}, "kind": 1},
        ],
        "outputs": [{"as_tensor": {"name": "huge"}}],
        "metadata": {},
    }
    in_graph(lambda module: module["graph"]["nodes"].append(node))(members)


def test_a_graph_of_absurd_size_is_refused_before_it_is_run(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt2"
    path.write_bytes(changed(repeated).content)
    with pytest.raises(SecureAIError, match="absurd memory"):
        load_model(path)


def test_a_graph_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "misfit.pt2"
    given = {"input": "dropout", "weight": "p_body_0_weight"}
    inputs = [{"name": name, "arg": {"as_tensor": {"name": value}}} for name, value in given.items()]
    path.write_bytes(changed(in_node(-2, inputs=inputs)).content)
    with pytest.raises(FormatError) as refused:
        load_model(path)
    assert "torch.export" in refused.value.hint
