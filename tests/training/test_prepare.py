"""Documents → data to train on."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from retrieval.errors import InvalidArgument
from training.data.text_data import TextData
from training.prepare import prepare


def test_texts_are_what_the_documents_say(teacher_folder: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    body = "Bees find nectar by the light of the sun.\n"
    (docs / "bees.md").write_text(f"# Bees\n\n{body}")
    (docs / "again.md").write_text(f"# Again\n\n{body.upper()}")
    (docs / "numbers.txt").write_text("1 2 3 4 5 6 7 8 9 10 " * 20)
    (docs / "empty.md").write_text("")
    about = prepare([docs], tmp_path / "data", str(teacher_folder))
    data = TextData.open(tmp_path / "data")
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))

    def text(ids: list[int]) -> str:
        return "".join(tokenizer.id_to_token(one).removeprefix("##") for one in ids)

    assert about["left_out"] == {
        "chunk: there already": 1,
        "chunk: few letters": 1,
        "document: nothing left of it": 2,
        "file: empty": 1,
    }
    assert len(data.held) == 1
    assert text(data.document(0)) == "beesfindnectarbythelightofthesun."
    ((left, right),) = data.pairs
    assert text(data.chunk(int(left))) in {"bees", "again"}
    assert data.chunk(int(right)) == data.document(0)
    assert json.loads((tmp_path / "data" / "about.json").read_text()) == about


def test_headings_are_told_apart(teacher_folder: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("bees", "wasps"):
        words = " ".join(f"{name} live in summer and sleep in winter {number}" for number in "abc")
        sections = [
            f"# About {name}",
            words,
            "## Usage",
            f"{words} x",
            f"## On {name}",
            f"{words} y",
        ]
        (docs / f"{name}.md").write_text("\n\n".join(sections))
    prepare([docs], tmp_path / "data", str(teacher_folder))
    data = TextData.open(tmp_path / "data")
    tokenizer = Tokenizer.from_file(str(teacher_folder / "tokenizer.json"))
    lefts = {
        "".join(tokenizer.id_to_token(one).removeprefix("##") for one in data.chunk(int(left)))
        for left, _ in data.pairs
    }
    assert {"onbees", "onwasps", "aboutbeesusage", "aboutwaspsusage"} <= lefts


def test_a_folder_without_data_is_refused(data_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="not a data folder"):
        TextData.open(tmp_path)
    shutil.copytree(data_folder, tmp_path / "data")
    (tmp_path / "data" / "texts.npy").write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(InvalidArgument, match="not a data folder"):
        TextData.open(tmp_path / "data")
