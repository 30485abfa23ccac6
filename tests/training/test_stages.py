"""Every kind of stage runs, learns, and goes on after a kill as if there had been none."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import CheckpointError, InvalidArgument
from training.data.batches import Batches, SpecialTokens, mask, pieces
from training.data.text_data import Order, TextData
from training.learning import checkpoint
from training.learning.checkpoint import Progress
from training.learning.discriminant import Discriminant
from training.learning.loop import Run, start
from training.learning.objectives import Pairs, info_nce
from training.learning.optimizer import learning_rate
from training.mine import mine
from training.models.student import load_student
from training.models.teacher import Teacher
from training.plot import plot, read_log
from training.stages import Stage

MakeBatches = Callable[[Stage], Batches]

SHORT = Stage(
    "distil",
    steps=6,
    learning_rate=2e-3,
    max_length=48,
    batch_tokens=300,
    micro_tokens=120,
    warmup_steps=2,
    evaluate_every=2,
    rope_theta=10_000.0,
)
STAGES = {
    "mlm": replace(SHORT, objective="mlm"),
    "contrastive": replace(SHORT, objective="contrastive", temperature=0.05),
    "contrastive, documents": replace(
        SHORT, objective="contrastive", whole_documents=True, max_length=200
    ),
    "distil": SHORT,
    "distil, muon": replace(SHORT, optimizer="muon"),
    "distil, long": replace(SHORT, whole_documents=True, max_length=300, min_length=65),
    "distil, stretches": replace(
        SHORT, whole_documents=True, stretches=True, max_length=100, discriminant=0.01
    ),
    "distil, frozen": replace(SHORT, frozen=("embeddings.", "encoder.layer.0.")),
}


@pytest.fixture
def begin(
    make_batches: MakeBatches, start_folder: Path, teacher_folder: Path
) -> Callable[[Path, Stage], Run]:
    def begin(folder: Path, stage: Stage) -> Run:
        teacher = Teacher(str(teacher_folder), "cpu")
        batches = make_batches(stage)
        if stage.discriminant:
            teacher.piece_tokens = 12  # the documents are short
            teacher.of_pieces = Discriminant.learn(teacher, batches, stage.discriminant)
        return start(folder, stage, batches=batches, begin=start_folder, teacher=teacher)

    return begin


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_stage_that_was_stopped_ends_as_one_that_was_not(
    stage: Stage, begin: Callable[[Path, Stage], Run], tmp_path: Path
) -> None:
    stage = replace(stage, steps=4)
    whole = begin(tmp_path / "whole", stage)
    before = {name: weight.clone() for name, weight in whole.model.state_dict().items()}
    whole.go_on()
    begin(tmp_path / "parts", stage).go_on(until=2)
    killed = begin(tmp_path / "parts", stage)
    killed._update()  # and before its checkpoint is whole, the process is gone
    (tmp_path / "parts" / ".step-00000003").mkdir()
    resumed = begin(tmp_path / "parts", stage)
    assert resumed.progress.step == 2
    resumed.go_on()
    assert resumed.progress.tokens == whole.progress.tokens
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name
        changed = not torch.equal(weight, before[name])
        assert changed != (bool(stage.frozen) and name.startswith(stage.frozen)), name


@pytest.mark.parametrize("name", ["mlm", "contrastive", "distil", "distil, muon"])
def test_a_stage_learns(name: str, begin: Callable[[Path, Stage], Run], tmp_path: Path) -> None:
    run = begin(tmp_path / "run", replace(STAGES[name], steps=40, evaluate_every=20))
    run.go_on()
    log = read_log(tmp_path / "run")
    first, last = (np.mean([record["loss"] for record in part]) for part in (log[1:6], log[-5:]))
    assert last < 0.9 * first
    if name.startswith("distil"):
        assert log[-1]["held"]["cosine"] > log[0]["held"]["cosine"]
        assert 0 < log[0]["teacher"]["ndcg"] <= 1
    plot([tmp_path / "run"], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_is_one_stage_s(begin: Callable[[Path, Stage], Run], tmp_path: Path) -> None:
    begin(tmp_path / "run", SHORT)
    with pytest.raises(InvalidArgument, match="another stage"):
        begin(tmp_path / "run", replace(SHORT, learning_rate=1.0))


def test_distillation_needs_a_teacher(
    make_batches: MakeBatches, start_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match="--teacher"):
        start(tmp_path / "run", SHORT, batches=make_batches(SHORT), begin=start_folder)


def test_large_batches_have_the_gradients_of_small_ones(
    make_batches: MakeBatches, start_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # no bfloat16, which would round
    stage = replace(STAGES["contrastive"], batch_tokens=600, micro_tokens=100)
    model = load_student(start_folder, stage, "cpu")
    figures = Pairs(model, make_batches(stage), stage, "cpu").learn(0)
    cached = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    pairs = make_batches(stage).pairs()
    assert len(pairs) > 3
    at_once = replace(stage, micro_tokens=10**6)
    texts = [pair.left for pair in pairs] + [pair.right for pair in pairs]
    vectors = Pairs(model, make_batches(at_once), at_once, "cpu")._embed(texts)
    loss, _ = info_nce(vectors, len(pairs), stage.temperature)
    loss.backward()
    assert figures["loss"] == pytest.approx(loss.item(), abs=1e-4)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(cached[name], weight.grad, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("max_length", [80, 130, 300])
def test_whole_documents_of_an_update_differ_and_hold_their_passages(
    max_length: int, make_batches: MakeBatches
) -> None:
    stage = replace(STAGES["contrastive, documents"], max_length=max_length, batch_tokens=10**6)
    batches = make_batches(stage)
    data, pairs = batches.data, batches.pairs()
    assert len({tuple(pair.right) for pair in pairs}) == len(pairs) > 3
    passages = {tuple(data.chunk(left)): data.chunk(right) for left, right in data.pairs.tolist()}
    for pair in pairs + batches.held_pairs(10):
        passage = " ".join(map(str, passages[tuple(pair.left[1:-1])]))
        assert f" {passage} " in " ".join(map(str, pair.right))


def test_hard_negatives_are_near_and_not_the_own_passage(
    data_folder: Path, start_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data_folder, folder)
    data = TextData.open(folder)
    negatives = mine(data, start_folder, 3, "cpu")
    assert negatives.shape == (len(data.pairs), 3)
    assert not (negatives == data.pairs[:, 1:]).any()
    held = set(data.chunks(held=True).tolist())
    assert not held & set(negatives.ravel().tolist())
    np.save(folder / "negatives.npy", negatives)
    stage = replace(STAGES["contrastive"], hard_negatives=2)
    batches = Batches(TextData.open(folder), stage, SpecialTokens.read(start_folder))
    assert all(len(pair.negatives) == 2 for pair in batches.pairs())
    model = load_student(start_folder, stage, "cpu")
    assert Pairs(model, batches, stage, "cpu").learn(0)["loss"] > 0


def test_what_is_held_back_is_never_drawn(make_batches: MakeBatches) -> None:
    batches = make_batches(replace(SHORT, max_length=10**6))
    data = batches.data
    held = [data.chunk(int(number)) for number in data.chunks(held=True)]
    assert held
    assert len(held) < len(data.texts) - 1
    seen = []
    while batches.order.epoch < 1:
        seen += [text[1:-1] for text in batches.texts()]
    assert not [text for text in held if text in seen]
    assert {tuple(data.chunk(int(number))) for number in data.chunks(held=False)} <= {
        tuple(text) for text in seen
    }


@given(count=st.integers(1, 20), taken=st.integers(0, 60), seed=st.integers(0, 9))
def test_an_order_goes_on_where_it_was(count: int, taken: int, seed: int) -> None:
    whole = Order(count, seed)
    walk = iter(whole)
    numbers = [next(walk) for _ in range(taken)]
    for epoch in range(taken // count):
        assert sorted(numbers[epoch * count : (epoch + 1) * count]) == list(range(count))
    resumed = iter(Order(count, seed, whole.epoch, whole.cursor))
    assert [next(resumed) for _ in range(25)] == [next(walk) for _ in range(25)]


@given(
    lengths=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_masks(lengths: list[int], share: float, seed: int) -> None:
    special = SpecialTokens(first=2, last=3, mask=4, vocabulary=90)
    texts = [[2, *range(10, 8 + length), 3] for length in lengths]
    masked, places, hidden = mask(texts, share, special, (seed, 1))
    assert mask(texts, share, special, (seed, 1)) == (masked, places, hidden)
    flat, before = ([token for text in some for token in text] for some in (masked, texts))
    assert [before[place] for place in places] == hidden
    assert [n for n, token in enumerate(flat) if token != before[n] and n not in places] == []
    assert all(text[0] == 2 and text[-1] == 3 for text in masked)


@given(length=st.integers(0, 40), most=st.integers(3, 12))
def test_pieces_have_every_token_once(length: int, most: int) -> None:
    special = SpecialTokens(first=2, last=3, mask=4, vocabulary=90)
    cut = pieces([2, *range(10, 10 + length), 3], special, most)
    assert [token for piece in cut for token in piece[1:-1]] == list(range(10, 10 + length))
    assert all(len(piece) <= most and (piece[0], piece[-1]) == (2, 3) for piece in cut)


def test_with_a_pooling_layer_all_of_the_teachers_layers_teach(
    make_batches: MakeBatches, deeper_folder: Path, teacher_folder: Path, tmp_path: Path
) -> None:
    teacher = Teacher(str(teacher_folder), "cpu")
    run = start(
        tmp_path / "run", SHORT, batches=make_batches(SHORT), begin=deeper_folder, teacher=teacher
    )
    assert run.model.config.num_layers == teacher.config.num_layers + 1
    run.go_on()
    lines = read_log(tmp_path / "run")
    assert lines[-1]["hidden"] < lines[1]["hidden"]
    assert lines[-1]["held"]["cosine"] > lines[0]["held"]["cosine"]
    with torch.no_grad():  # the last layer that is compared with the teacher's last
        last = run.model.encoder.layer[-2]
        last.mlp_ln.bias += 1.0
    changed = run.learning.learn(0)
    assert changed["hidden"] > lines[-1]["hidden"] + 0.05


def test_the_learning_rate_rises_and_falls() -> None:
    stage = replace(SHORT, steps=100, warmup_steps=10, learning_rate=1.0, final_share=0.1)
    rates = [learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.11)


def test_checkpoints_are_whole_and_in_small_files(tmp_path: Path) -> None:
    tensors = {
        "large": torch.arange(5_000_000, dtype=torch.float32).view(1000, 5000),
        "small": torch.tensor(3.5),
        "wide": torch.ones(1, 10),
    }
    checkpoint.save(tmp_path, Progress(1), tensors)
    folder = checkpoint.save(tmp_path, Progress(2, tokens=7), tensors)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert max(path.stat().st_size for path in folder.iterdir()) <= checkpoint.FILE_BYTES
    kept = checkpoint.load(tmp_path)
    assert kept is not None
    assert kept[0] == Progress(2, tokens=7)
    assert kept[1].keys() == tensors.keys()
    assert all(torch.equal(kept[1][name], tensor) for name, tensor in tensors.items())
    first = sorted(folder.glob("*.safetensors"))[0]
    first.write_bytes(first.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objective = 'mlm'\nsteps = 1\nlearning_rate = 1e-3\nlernrate = 2", "lernrate"),
        ("objective = 'guess'\nsteps = 1\nlearning_rate = 1e-3", "objective must be"),
        (
            "objective = 'mlm'\nsteps = 1\nlearning_rate = 1e-3\noptimizer = 'sgd'",
            "optimizer must be adamw or muon",
        ),
        (
            "objective = 'contrastive'\nsteps = 1\nlearning_rate = 1e-3\nhard_negatives = 2\n"
            "whole_documents = true",
            "hard_negatives are chunks",
        ),
        (
            "objective = 'distil'\nsteps = 1\nlearning_rate = 1e-3\nstretches = true",
            "need whole_documents",
        ),
        (
            "objective = 'contrastive'\nsteps = 1\nlearning_rate = 1e-3\nstretches = true\n"
            "whole_documents = true",
            "can't be a stretch",
        ),
        ("objective = 'mlm'\nsteps = 0\nlearning_rate = 1e-3", "steps must be above 0"),
        ("objective = 'mlm'", "missing"),
        ("objective = ", "can't read the stage"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "stage.toml").write_text(text)
    with pytest.raises(InvalidArgument, match=message):
        Stage.from_file(tmp_path / "stage.toml")


def test_the_stages_that_come_with_it_can_be_read() -> None:
    stages = sorted((Path(__file__).parents[2] / "training" / "stages").glob("*.toml"))
    assert len(stages) >= 6
    for path in stages:
        Stage.from_file(path)
