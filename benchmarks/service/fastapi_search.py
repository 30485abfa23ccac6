"""The search service that one writes in an afternoon: FastAPI, sentence-transformers, FAISS.

``benchmarks/service/`` compares ours with it. It is run by uvicorn, with ``MODEL`` and
``PASSAGES`` (a JSON list of texts) in the environment.
"""

import json
import os
from pathlib import Path

import faiss
from fastapi import FastAPI
from sentence_transformers import SentenceTransformer

passages: list[str] = json.loads(Path(os.environ["PASSAGES"]).read_text(encoding="utf-8"))
model = SentenceTransformer(os.environ["MODEL"])
vectors = model.encode(passages, normalize_embeddings=True)
index = faiss.IndexFlatIP(vectors.shape[1])
index.add(vectors)
app = FastAPI()


@app.get("/search")
def search(query: str) -> list[dict[str, object]]:
    """Return the ten best passages."""
    vector = model.encode([query], normalize_embeddings=True, show_progress_bar=False)
    scores, rows = index.search(vector, 10)
    best = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
    return [{"text": passages[row], "score": score} for row, score in best]
