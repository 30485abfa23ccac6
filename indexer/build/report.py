"""Report of a build: counts of everything that it did and left out, as text and as JSON."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from retrieval.domain.records import IndexInfo
from retrieval.domain.wording import counted
from retrieval.store import Maintained


@dataclass(slots=True)
class BuildReport:
    """Counts of one build, filled in while it runs."""

    added: int = 0
    """Number of documents that are new in the index."""
    changed: int = 0
    """Number of documents whose content changed."""
    removed: int = 0
    """Number of documents whose file is gone or can't be indexed any more."""
    unchanged: int = 0
    kept: int = 0
    """Number of documents whose file can't be read now; the version in the index stays."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of files left out, by reason."""
    encodings: Counter[str] = field(default_factory=Counter)
    """Number of files read, by encoding."""
    incomplete: int = 0
    """Number of documents read of which some part could not be."""
    chunks_embedded: int = 0
    chunks_reused: int = 0
    """Number of chunks whose text already had a vector."""
    tokens_embedded: int = 0
    """Number of tokens that went through the model, special tokens included."""
    truncated: int = 0
    """Number of chunks in the whole index that are longer than the model reads."""
    seconds: float = 0.0
    """Wall time of the whole build."""
    model_seconds: float = 0.0
    """Wall time inside the model, tokenizing included."""
    load_seconds: float = 0.0
    """Wall time of loading the model."""
    maintained: Maintained = field(default_factory=Maintained)
    """Segments merged, vectors dropped and indexes made at the end."""
    warnings: list[str] = field(default_factory=list)
    """Warnings for the user, a line each."""
    index: str = ""
    """Folder of the index."""
    info: IndexInfo | None = None
    """The index after the build."""

    @property
    def tokens_per_second(self) -> float:
        """Tokens embedded per second of the build, without the time to load the model."""
        seconds = self.seconds - self.load_seconds
        return self.tokens_embedded / seconds if seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the report as ``indexer build --json`` prints it."""
        info = self.info
        return {
            "index": self.index,
            "generation": info.generation if info else 0,
            "model": info.model.name if info else "",
            "model_revision": info.model.revision if info else "",
            "documents": {
                "total": info.documents if info else 0,
                "added": self.added,
                "changed": self.changed,
                "removed": self.removed,
                "unchanged": self.unchanged,
                "kept": self.kept,
                "incomplete": self.incomplete,
                "skipped": sum(self.skipped.values()),
            },
            "skipped_by_reason": dict(sorted(self.skipped.items())),
            "encodings": dict(sorted(self.encodings.items())),
            "chunks": {
                "total": info.chunks if info else 0,
                "embedded": self.chunks_embedded,
                "reused": self.chunks_reused,
                "truncated": self.truncated,
            },
            "tokens": {
                "total": info.tokens if info else 0,
                "embedded": self.tokens_embedded,
                "per_second": round(self.tokens_per_second, 1),
            },
            "seconds": round(self.seconds, 3),
            "model_seconds": round(self.model_seconds, 3),
            "load_seconds": round(self.load_seconds, 3),
            "maintenance": asdict(self.maintained),
            "warnings": self.warnings,
        }

    def as_line(self) -> str:
        """Return the report in one line, as ``indexer watch`` prints it."""
        generation = self.info.generation if self.info else 0
        kept = f", {self.kept} kept" if self.kept else ""
        return (
            f"generation {generation}: {self.added} added, {self.changed} changed, "
            f"{self.removed} removed{kept}, {counted(self.chunks_embedded, 'chunk')} embedded, "
            f"{counted(self.skipped.total(), 'file')} skipped, {self.seconds:.1f} s"
            + "".join(f"; warning: {warning}" for warning in self.warnings)
        )

    def as_text(self) -> str:
        """Return the report as ``indexer build`` prints it."""
        info = self.info
        total = "nothing"
        if info:
            total = f"{counted(info.documents, 'document')}, {counted(info.chunks, 'chunk')}"
        lines = [
            f"index {self.index}: {total}"
            + (f", model {info.model.name}, generation {info.generation}" if info else ""),
            f"  documents  {self.added} added, {self.changed} changed, {self.removed} removed, "
            f"{self.unchanged} unchanged",
        ]
        if self.kept:
            lines.append(f"             {self.kept} kept, because their files can't be read now")
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            lines.append(f"  skipped    {counted(self.skipped.total(), 'file')}: {reasons}")
        if self.incomplete:
            lines.append(
                f"  incomplete {counted(self.incomplete, 'document')}, whose metadata 'unread' "
                f"names what could not be read"
            )
        fallbacks = {name: n for name, n in self.encodings.items() if name != "utf-8"}
        if fallbacks:
            decoded = ", ".join(f"{count} as {name}" for name, count in sorted(fallbacks.items()))
            lines.append(f"  decoded    {decoded}, all others as utf-8")
        lines.append(
            f"  chunks     {self.chunks_embedded} embedded, {self.chunks_reused} reused, "
            f"{self.truncated} truncated"
        )
        if self.tokens_embedded:
            lines.append(
                f"  tokens     {self.tokens_embedded} embedded, "
                f"{self.tokens_per_second:.0f} per second"
            )
        lines += self._maintenance_lines()
        lines.append(
            f"  time       {self.seconds:.1f} s ({self.model_seconds:.1f} s in the model, "
            f"{self.load_seconds:.1f} s loading it)"
        )
        lines += [f"  warning    {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _maintenance_lines(self) -> list[str]:
        """Return what was merged, indexed and tuned; empty if nothing was."""
        lines = []
        done = self.maintained
        if done.merged or done.removed:
            lines.append(
                f"  segments   {done.merged} merged, "
                f"{counted(done.removed, 'unused vector')} dropped"
            )
        if done.ann:
            lines.append(
                f"  search     {done.ann.kind} index built, recall@10 {done.ann.recall} "
                f"compared with exact search"
            )
        if done.tuned:
            lines.append(
                f"  search     tuned again for recall@10 {done.tuned.target}: "
                f"{done.tuned.recall} compared with exact search"
            )
        return lines
