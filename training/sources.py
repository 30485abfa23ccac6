"""Extraction of documents from other collections into folders, for ``training.prepare``.

    python -m training.sources pubmed pubmed21n1298.xml.gz --out text/pubmed

| kind | what it reads |
|---|---|
| pubmed | MEDLINE/PubMed XML (https://www.nlm.nih.gov/databases/download/pubmed_medline.html) |
| wikipedia | an export of pages, ``.xml.bz2`` (needs the package mwparserfromhell) |
| dict | dictionaries in dictd's form, ``.dict.dz`` |
| wordnet | WordNet's ``data.noun`` and so on (https://wordnet.princeton.edu/documentation) |
| mail | JSON files with a ``text`` that is a message with its header |
| json | JSON files that are a text, or have a text or a list of paragraphs as ``text`` |
| beir | collections in BEIR form: the documents that their training queries should find |
"""

import bz2
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from lxml import etree

from retrieval.commands import program
from retrieval.eval.sets.judgements import load_judgements

_LEAST_CHARS: Final = 200
"""Characters of the shortest abstract, page or message; shorter ones have little to learn from."""
_ENTRIES: Final = 200
"""Dictionary entries in one document: a few thousand words, as in an article."""

Document = tuple[str, str]
"""Name and text (in Markdown) of a document."""


def pubmed(path: Path) -> Iterator[Document]:
    """Yield English titles and abstracts."""
    with gzip.open(path) as file:
        for _, article in etree.iterparse(file, tag="PubmedArticle", resolve_entities=False):
            title = " ".join(_text(part) for part in article.findall(".//ArticleTitle"))
            parts = [_text(part) for part in article.findall(".//Abstract/AbstractText")]
            number, language = article.findtext(".//PMID"), article.findtext(".//Language")
            article.clear()
            abstract = "\n\n".join(part for part in parts if part)
            if language == "eng" and len(abstract) >= _LEAST_CHARS:
                yield f"{number}.md", f"# {title}\n\n{abstract}\n"


def _text(element: Any) -> str:  # noqa: ANN401  (lxml's elements have no public type)
    return "".join(element.itertext()).strip()


def wikipedia(path: Path) -> Iterator[Document]:
    """Yield articles without markup, tables and references."""
    import mwparserfromhell  # type: ignore[import-not-found,unused-ignore]

    with bz2.open(path) as file:
        for _, page in etree.iterparse(file, tag="{*}page", recover=True, resolve_entities=False):
            title, source = page.findtext("{*}title") or "", page.findtext(".//{*}text") or ""
            page.clear()
            if ":" in title or source.lower().startswith("#redirect"):
                continue
            code = mwparserfromhell.parse(source)
            for tag in code.filter_tags(matches=lambda node: node.tag in ("ref", "table")):
                if code.contains(tag):  # unless it was removed with one around it
                    code.remove(tag)
            text = re.sub(r"(?m)^(thumb|right|left|\d+px)\|.*$", "", code.strip_code()).strip()
            if len(text) >= _LEAST_CHARS:
                yield f"{_name(title)}.md", f"# {title}\n\n{text}\n"


def dictionary(path: Path) -> Iterator[Document]:
    """Yield entries, one per paragraph."""
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
        entries = re.split(r"\n(?=\S)", file.read())
    yield from _of_entries(path.name.partition(".")[0], [" ".join(one.split()) for one in entries])


def wordnet(path: Path) -> Iterator[Document]:
    """Yield synonyms with their gloss."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        fields, bar, gloss = line.partition("|")
        if bar and not line.startswith("  "):
            words = fields.split()
            names = words[4 : 4 + 2 * int(words[3], 16) : 2]
            entries.append(f"{', '.join(names).replace('_', ' ')}: {gloss.strip()}")
    yield from _of_entries(path.name, entries)


def _of_entries(name: str, entries: list[str]) -> Iterator[Document]:
    for start in range(0, len(entries), _ENTRIES):
        yield f"{name}-{start:06d}.txt", "\n\n".join(entries[start : start + _ENTRIES])


def mail(path: Path) -> Iterator[Document]:
    """Yield a message's subject and text, without quoted lines."""
    for name, message in json_text(path):
        head, _, body = message.partition("\n\n")
        subject = re.search(r"(?m)^Subject: (.*)$", head)
        said = "\n".join(line for line in body.splitlines() if not line.startswith(">"))
        if len(said) >= _LEAST_CHARS:
            yield name, (f"{subject.group(1)}\n\n" if subject else "") + said


def json_text(path: Path) -> Iterator[Document]:
    """Yield the text in a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    text = content.get("text") if isinstance(content, dict) else content
    if isinstance(text, list):
        text = "\n\n".join(text)
    if isinstance(text, str):
        yield f"{_name(path.stem)}.txt", text


def beir(folder: Path) -> Iterator[Document]:
    """Yield documents that answer queries of the training split only, not of another split."""
    splits = {path.stem: _wanted(path) for path in (folder / "qrels").glob("*.tsv")}
    training = splits.pop("train", set()).difference(*splits.values())
    with (folder / "corpus.jsonl").open(encoding="utf-8") as file:
        for line in file:
            document = json.loads(line)
            if document["_id"] in training:
                title = document.get("title") or ""
                yield f"{_name(document['_id'])}.txt", f"{title}\n\n{document['text']}".strip()


def _wanted(qrels: Path) -> set[str]:
    """Return the documents that queries should find."""
    return set().union(*load_judgements(qrels).values())


def _name(title: str) -> str:
    return re.sub(r"\W+", "-", title)[:80]


KINDS: Mapping[str, Callable[[Path], Iterator[Document]]] = {
    "pubmed": pubmed,
    "wikipedia": wikipedia,
    "dict": dictionary,
    "wordnet": wordnet,
    "mail": mail,
    "json": json_text,
    "beir": beir,
}


def extract(kind: str, files: list[Path], out: Path) -> int:
    """Write a file for each document.

    Args:
        kind: a key of ``KINDS``.
        files: files to read.
        out: folder to write; existing files are replaced.

    Returns:
        number of documents.
    """
    out.mkdir(parents=True, exist_ok=True)
    count = 0
    for path in files:
        for name, text in KINDS[kind](path):
            (out / name).write_text(text, encoding="utf-8")
            count += 1
    return count


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.argument("files", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(kind: str, files: tuple[Path, ...], out: Path) -> None:
    """Write the documents in FILES, which are of KIND, as separate files."""
    click.echo(f"{out}: {extract(kind, list(files), out)} documents")


if __name__ == "__main__":
    sys.exit(program.run(main, "training.sources"))
