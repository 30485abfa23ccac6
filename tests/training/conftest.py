"""A small world to train in: a BERT teacher, texts, and the encoder to begin with."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.tiny_model import TINY_BERT, write_tokenizer
from training.convert import convert
from training.data.batches import Batches, SpecialTokens
from training.data.text_data import TextData
from training.from_bert import heads
from training.prepare import prepare
from training.stages import Stage

WORDS = "bees find nectar by the light of the sun and tell it with a dance".split()  # noqa: SIM905
DOCUMENTS = 24


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    """Products as small as these only wait for each other on several cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights, 64 wide, mean pooling."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    bert = BertModel(BertConfig(**TINY_BERT), add_pooling_layer=False)
    with torch.no_grad():  # norms as after training
        for name, weight in bert.named_parameters():
            if "LayerNorm" in name:
                weight.add_(torch.rand_like(weight) * 0.4)
    bert.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path) -> Path:
    """Two dozen documents with headings, as ``training.prepare`` makes them."""
    docs, out = tmp_path_factory.mktemp("docs"), tmp_path_factory.mktemp("data")
    random.seed(7)
    for number in range(DOCUMENTS):
        sections = []
        for section in range(3):
            text = " ".join(random.choices(WORDS, k=12))
            sections.append(f"## {random.choice(WORDS)} {number} {section}\n\n{text}.\n")
        (docs / f"{number}.md").write_text(f"# Document {number}\n\n" + "\n".join(sections))
    prepare([docs], out, str(teacher_folder), held=4)
    return out


def convert_soon(teacher: Path, data: Path, out: Path, **options: Any) -> None:
    """Convert with a tenth of the steps for each head: training need not start well here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heads, "_STEPS", 100)
        convert(str(teacher), data, out, rope_theta=10_000.0, max_positions=512, **options)


@pytest.fixture(scope="session")
def start_folder(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, data_folder: Path
) -> Path:
    """The GTE encoder that the teacher becomes."""
    out = tmp_path_factory.mktemp("start")
    convert_soon(teacher_folder, data_folder, out)
    return out


@pytest.fixture(scope="session")
def deeper_folder(
    tmp_path_factory: pytest.TempPathFactory, teacher_folder: Path, data_folder: Path
) -> Path:
    """The same with a layer that takes the mean."""
    out = tmp_path_factory.mktemp("deeper")
    convert_soon(teacher_folder, data_folder, out, pool_layer=True)
    return out


@pytest.fixture
def make_batches(data_folder: Path, start_folder: Path):  # noqa: ANN201
    """Batches of a stage, as if the process had just begun."""

    def make(stage: Stage) -> Batches:
        return Batches(TextData.open(data_folder), stage, SpecialTokens.read(start_folder))

    return make
