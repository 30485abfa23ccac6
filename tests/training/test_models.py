"""What a BERT encoder becomes, and what is shipped in the end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from retrieval.encoding.encoder import Encoder
from retrieval.errors import CheckpointError, InvalidArgument
from retrieval.gte import GteModel, load_model, pack
from retrieval.gte import model as network
from training.convert import convert, gte_config, gte_weights
from training.export import export, mean_of
from training.from_bert.biases import ease, exact_one
from training.from_bert.shrink import shrink
from training.learning.held_back import ndcg
from training.models.precision import mixed_precision

ROWS = [[2, 40, 41, 42, 3], [2, *range(10, 60), 3], [2, 7, 3]]


def test_all_but_positions_is_carried_over_exactly(teacher_folder: Path) -> None:
    bert = load_model(teacher_folder, trainable=True)
    with torch.no_grad():  # no positions but their mean
        table = bert.embeddings.position_embeddings.weight
        table.copy_(table.mean(dim=0).expand_as(table))
    student = GteModel(gte_config(bert.config, rope_theta=10_000.0, max_positions=512))
    student.load_state_dict(gte_weights(bert, pack(ROWS), rope_theta=10_000.0))
    student.prepare_training(device="cpu")
    student.inv_freq.zero_()  # no token turns
    with torch.no_grad():
        torch.testing.assert_close(student(pack(ROWS)), bert(pack(ROWS)), atol=2e-4, rtol=0)


def test_the_change_of_basis_lets_positions_disturb_less(minilm_folder: Path) -> None:
    bert = load_model(minilm_folder, trainable=True)
    ids = torch.randint(2000, 20_000, (6, 60), generator=torch.Generator().manual_seed(0))
    batch = pack([[101, *row, 102] for row in ids.tolist()])
    balanced = gte_weights(bert, batch, rope_theta=160_000.0)
    plain = {
        name: bert.state_dict()[name] if "qkv_proj" in name else weight
        for name, weight in balanced.items()
    }
    cosines = []
    with torch.no_grad():
        wanted = bert(batch)
        for weights in (balanced, plain):
            student = GteModel(gte_config(bert.config, rope_theta=160_000.0, max_positions=8192))
            student.load_state_dict(weights)
            student.prepare_training(device="cpu")
            cosines.append(torch.cosine_similarity(student(batch), wanted).mean().item())
    assert cosines[0] > cosines[1] + 0.05


def test_neurons_that_say_the_same_are_not_missed(teacher_folder: Path) -> None:
    bert = load_model(teacher_folder, trainable=True)
    neurons = bert.config.intermediate_size
    with torch.no_grad():  # every neuron twice, half of them hardly heard
        for layer in bert.encoder.layer:
            for weight in (layer.mlp.up_proj.weight, layer.mlp.up_proj.bias):
                weight[neurons // 2 :] = weight[: neurons // 2]
            layer.mlp.down_proj.weight[:, neurons // 2 :] *= 0.1
    rows = torch.randint(4, 190, (40, 50), generator=torch.Generator().manual_seed(1)).tolist()
    before = {name: weight.clone() for name, weight in bert.state_dict().items()}
    smaller = shrink(bert, pack(rows), neurons // 2)
    assert smaller.config.intermediate_size == neurons // 2
    assert all(torch.equal(before[name], weight) for name, weight in bert.state_dict().items())
    with torch.no_grad():
        cosine = torch.cosine_similarity(smaller(pack(ROWS)), bert(pack(ROWS)))
    assert cosine.min() > 0.999
    same = shrink(bert, pack(rows), neurons)
    with torch.no_grad():
        torch.testing.assert_close(same(pack(ROWS)), bert(pack(ROWS)), atol=1e-5, rtol=0)
    with pytest.raises(InvalidArgument, match="can't keep"):
        shrink(bert, pack(rows), neurons + 1)


def test_norms_that_shift_nothing_have_no_gate(teacher_folder: Path) -> None:
    bert = load_model(teacher_folder, trainable=True)
    with torch.no_grad():
        bert.state_dict()["encoder.layer.0.attn_ln.bias"].zero_()
    with pytest.raises(CheckpointError, match=r"layer\.0"):
        gte_weights(bert, pack(ROWS), rope_theta=10_000.0)


def test_long_vectors_that_make_biases_give_way_to_short_ones(teacher_folder: Path) -> None:
    bert = load_model(teacher_folder, trainable=True)
    state = bert.state_dict()
    gamma, beta = (state[f"encoder.layer.1.attn_ln.{kind}"] for kind in ("weight", "bias"))
    with torch.no_grad():
        state["encoder.layer.1.mlp.up_proj.bias"].normal_()
        beta -= ((beta / gamma).sum() - 0.11) / len(beta) * gamma  # sum(beta / gamma) is small
    rows = torch.randint(4, 190, (60, 50), generator=torch.Generator().manual_seed(2)).tolist()
    model = GteModel(gte_config(bert.config, rope_theta=10_000.0, max_positions=512))
    model.load_state_dict(gte_weights(bert, pack(rows), rope_theta=10_000.0))
    model.prepare_training(device="cpu")
    weight = model.encoder.layer[1].mlp.up_gate_proj.weight
    with torch.no_grad():
        before, length = model.embed(pack(rows), "cls"), weight.norm(dim=1).mean()
        exact = exact_one(gamma, beta)
        assert exact is not None
        ease(model, pack(rows))
        after = model.embed(pack(rows), "cls")
    assert weight.norm(dim=1).mean() < length / 5
    assert (before * after).sum(dim=1).min() > 0.99
    states = torch.nn.functional.layer_norm(torch.randn(90, len(gamma)), gamma.shape, gamma, beta)
    torch.testing.assert_close(states @ exact, torch.ones(90), atol=1e-3, rtol=0)
    assert exact_one(gamma, torch.zeros_like(beta)) is None


def test_only_bert_is_converted(golden: Path, data_folder: Path, tmp_path: Path) -> None:
    folder = golden / "plain_rope_tt0"
    with pytest.raises(InvalidArgument, match="not a BERT encoder"):
        convert(
            str(_with_tokenizer(folder, tmp_path)),
            data_folder,
            tmp_path / "out",
            rope_theta=1e4,
            max_positions=64,
        )


def _with_tokenizer(folder: Path, out: Path) -> Path:
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(out / folder.name, folder.name)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_exported_is_read_by_all(start_folder: Path, tmp_path: Path, dtype: str) -> None:
    from sentence_transformers import SentenceTransformer

    model = load_model(start_folder, trainable=True)
    export(model, start_folder, tmp_path / "out", max_tokens=300, dtype=dtype)
    texts = ["bees find nectar", "a dance " * 60, "x"]
    encoder = Encoder.load(str(tmp_path / "out"), device="cpu")
    ours = encoder.encode(texts)
    assert encoder.max_tokens == 300
    transformer = SentenceTransformer(str(tmp_path / "out"), device="cpu").float()
    theirs = transformer.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(ours, theirs, atol=3e-6)
    native, report = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = encoder.tokenizer.encode(texts[:1])[0].ids
    with torch.no_grad():
        first = native.float().eval()(torch.tensor([ids])).last_hidden_state[0, 0]
    np.testing.assert_allclose(ours[0], first / first.norm(), atol=3e-6)
    exact = Encoder.load(str(start_folder), device="cpu").encode(texts)
    assert (ours * exact).sum(axis=1).min() > (0.999 if dtype == "float16" else 0.999999)


def test_training_and_inference_agree(start_folder: Path) -> None:
    trainable = load_model(start_folder, trainable=True)
    ready = load_model(start_folder)
    with torch.enable_grad():
        ours = trainable.embed(pack(ROWS), "cls")
    assert ours.requires_grad
    torch.testing.assert_close(ours.detach(), ready.embed(pack(ROWS), "cls"), atol=1e-6, rtol=0)


def test_products_in_bfloat16_train_weights_in_float32(
    start_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(start_folder, trainable=True)
    exact = model.embed(pack(ROWS), "cls").detach()
    seen = []
    attention = network.packed_attention

    def noted(query: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append(query.dtype)
        return attention(query, *others)

    monkeypatch.setattr(network, "packed_attention", noted)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with mixed_precision("cpu"):
        half = model.embed(pack(ROWS), "cls")
    assert set(seen) == {torch.bfloat16}  # what FlashAttention takes
    assert (half * exact).sum(dim=1).min() > 0.99
    half.sum().backward()
    assert all(weight.grad.dtype == torch.float32 for weight in model.parameters())
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    with mixed_precision("cpu"):
        torch.testing.assert_close(model.embed(pack(ROWS), "cls").detach(), exact)


def test_the_mean_of_encoders(start_folder: Path, deeper_folder: Path) -> None:
    one, other, deeper = (
        load_model(folder, trainable=True) for folder in (start_folder, start_folder, deeper_folder)
    )
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.5)
    before = {name: weight.clone() for name, weight in one.state_dict().items()}
    for name, weight in mean_of([one, other]).state_dict().items():
        torch.testing.assert_close(weight, before[name] + 0.25)
    with pytest.raises(InvalidArgument, match="different shapes"):
        mean_of([one, deeper])


def test_ndcg_of_one_right_passage() -> None:
    scores = torch.zeros(12, 12)
    scores[torch.arange(12), torch.arange(12)] = 1.0
    assert ndcg(scores) == 1.0
    scores[0, 1] = 2.0  # second best: 1 / log2(3)
    scores[1] = torch.arange(12) + 2.0  # eleventh: nothing
    assert ndcg(scores) == pytest.approx((10 + 1 / np.log2(3)) / 12)
