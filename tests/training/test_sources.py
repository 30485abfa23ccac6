"""Collections that become folders of documents."""

import bz2
import gzip
import json
from pathlib import Path

import pytest

from training.sources import extract

ABSTRACT = "Bees that have found nectar dance on the comb. " * 6
ARTICLE = """<PubmedArticle><MedlineCitation><PMID>{n}</PMID><Article>
<ArticleTitle>The <i>waggle</i> dance</ArticleTitle>
<Abstract><AbstractText Label="AIMS">{text}</AbstractText><AbstractText>More.</AbstractText>
</Abstract><Language>{language}</Language></Article></MedlineCitation></PubmedArticle>"""


def read_all(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_pubmed(tmp_path: Path) -> None:
    articles = [
        ARTICLE.format(n=1, text=ABSTRACT, language="eng"),
        ARTICLE.format(n=2, text=ABSTRACT, language="fre"),
        ARTICLE.format(n=3, text="", language="eng"),
    ]
    path = tmp_path / "some.xml.gz"
    path.write_bytes(
        gzip.compress(f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>".encode())
    )
    assert extract("pubmed", [path], tmp_path / "out") == 1
    assert read_all(tmp_path / "out") == {
        "1.md": f"# The waggle dance\n\n{ABSTRACT.strip()}\n\nMore.\n"
    }


def test_dictionaries(tmp_path: Path) -> None:
    path = tmp_path / "gcide.dict.dz"
    path.write_bytes(gzip.compress(b"Bee \\Bee\\, n.\n   An insect.\nComb, n.\n   Of wax."))
    assert extract("dict", [path], tmp_path / "out") == 1
    assert read_all(tmp_path / "out") == {
        "gcide-000000.txt": "Bee \\Bee\\, n. An insect.\n\nComb, n. Of wax."
    }


def test_wordnet(tmp_path: Path) -> None:
    path = tmp_path / "data.noun"
    path.write_text(
        "  1 This software is licensed\n"
        "02206856 05 n 02 bee 0 honey_bee 0 001 @ 02206270 n 0000 | a hairy insect  \n"
    )
    assert extract("wordnet", [path], tmp_path / "out") == 1
    assert read_all(tmp_path / "out") == {"data.noun-000000.txt": "bee, honey bee: a hairy insect"}


def test_messages_and_texts_in_json(tmp_path: Path) -> None:
    message = tmp_path / "m.json"
    message.write_text(json.dumps({"text": f"From: a\nSubject: Bees\n\n> quoted\n{ABSTRACT}"}))
    assert extract("mail", [message], tmp_path / "mail") == 1
    assert read_all(tmp_path / "mail") == {"m.txt": f"Bees\n\n{ABSTRACT}"}
    speech = tmp_path / "1790 speech.json"
    speech.write_text(json.dumps({"text": ["Fellow citizens,", "I embrace"]}))
    assert extract("json", [speech], tmp_path / "json") == 1
    assert read_all(tmp_path / "json") == {"1790-speech.txt": "Fellow citizens,\n\nI embrace"}


def test_of_collections_none_but_training_documents(tmp_path: Path) -> None:
    folder = tmp_path / "meetings"
    (folder / "qrels").mkdir(parents=True)
    names = ("learned", "asked", "both", "nobody's")
    lines = [{"_id": name, "title": name.title(), "text": ABSTRACT} for name in names]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    head = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(f"{head}q1\tlearned\t1\nq2\tboth\t1\n")
    (folder / "qrels" / "test.tsv").write_text(f"{head}q3\tasked\t1\nq4\tboth\t1\n")
    assert extract("beir", [folder], tmp_path / "out") == 1
    assert read_all(tmp_path / "out") == {"learned.txt": f"Learned\n\n{ABSTRACT.strip()}"}


def test_wikipedia(tmp_path: Path) -> None:
    pytest.importorskip("mwparserfromhell")
    page = "<page><title>{}</title><revision><text>{}</text></revision></page>"
    source = f"'''Bees''' are [[insect|insects]].&lt;ref&gt;A book&lt;/ref&gt; {ABSTRACT}"
    pages = [page.format("Bee", source), page.format("Talk:Bee", source)]
    pages.append(page.format("Apis", "#REDIRECT [[Bee]]"))
    path = tmp_path / "wiki.xml.bz2"
    path.write_bytes(
        bz2.compress(f'<mediawiki xmlns="urn:x">{"".join(pages)}</mediawiki>'.encode())
    )
    assert extract("wikipedia", [path], tmp_path / "out") == 1
    assert read_all(tmp_path / "out") == {
        "Bee.md": f"# Bee\n\nBees are insects. {ABSTRACT.strip()}\n"
    }
