"""The vector stores in ``benchmarks/store/``: how each is built, opened and searched.

Every peer is set up as its users do: with its own defaults, cosine or inner product, ids and
vectors only.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.store import open_reader, open_writer

K = 10
"""Number of rows that a search finds."""
EFFORTS = (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)

Ids = NDArray[np.int64]


class Contestant(ABC):
    """Store in a folder of its own."""

    efforts: Sequence[Any] = EFFORTS
    """Efforts of a search, from low to high."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim

    @abstractmethod
    def build(self, vectors: NDArray[np.float32]) -> None:
        """Store float32 [n, dim] under the ids 0 to n-1."""

    @abstractmethod
    def open(self) -> None:
        """Open the store that ``build`` made."""

    @abstractmethod
    def set_effort(self, effort: Any) -> None:
        """Use one of ``efforts`` for the searches that follow."""

    @abstractmethod
    def search(self, query: NDArray[np.float32]) -> Ids:
        """Return the ids of the ``K`` nearest to float32 [dim]."""


class Ours(Contestant):
    """Our index, built by ``benchmarks/store/``; it tunes itself to a recall."""

    efforts = (0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)

    def build(self, vectors: NDArray[np.float32]) -> None:
        """Do nothing; the index is built already."""

    def open(self) -> None:
        self._reader = open_reader(self.folder)

    def set_effort(self, effort: float) -> None:
        self._reader.close()
        with open_writer(self.folder) as writer:
            with writer.commit() as commit:
                commit.set_index_type(writer.info.index_type, effort)  # type: ignore[union-attr]
            writer.maintain()
        self._reader = open_reader(self.folder)

    def search(self, query: NDArray[np.float32]) -> Ids:
        return self._reader.search_vectors(query[None], K).vector_ids[0] - 1


class Hnswlib(Contestant):
    """https://github.com/nmslib/hnswlib, with the parameters of its README."""

    def build(self, vectors: NDArray[np.float32]) -> None:
        import hnswlib

        index = hnswlib.Index(space="ip", dim=self.dim)
        index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        for start, part in parts(vectors, 50_000):
            index.add_items(part, np.arange(start, start + len(part)))
        index.save_index(str(self.folder / "hnswlib.bin"))

    def open(self) -> None:
        import hnswlib

        self._index = hnswlib.Index(space="ip", dim=self.dim)
        self._index.load_index(str(self.folder / "hnswlib.bin"))
        self._index.set_num_threads(1)

    def set_effort(self, effort: int) -> None:
        self._index.set_ef(effort)

    def search(self, query: NDArray[np.float32]) -> Ids:
        found: Ids = self._index.knn_query(query, K)[0][0].astype(np.int64)
        return found


class Usearch(Contestant):
    """https://github.com/unum-cloud/usearch."""

    def build(self, vectors: NDArray[np.float32]) -> None:
        from usearch.index import Index

        index = Index(ndim=self.dim, metric="ip")
        for start, part in parts(vectors, 50_000):
            index.add(np.arange(start, start + len(part)), part)
        index.save(str(self.folder / "usearch.bin"))

    def open(self) -> None:
        from usearch.index import Index

        self._index = Index.restore(str(self.folder / "usearch.bin"))

    def set_effort(self, effort: int) -> None:
        self._index.expansion_search = effort

    def search(self, query: NDArray[np.float32]) -> Ids:
        return np.asarray(self._index.search(query, K, threads=1).keys, dtype=np.int64)


class Chroma(Contestant):
    """https://github.com/chroma-core/chroma, a local persistent collection."""

    def build(self, vectors: NDArray[np.float32]) -> None:
        client = self._client()
        collection = client.create_collection(
            "passages", configuration={"hnsw": {"space": "ip"}}, embedding_function=None
        )
        for start, part in parts(vectors, client.get_max_batch_size()):
            ids = [str(row) for row in range(start, start + len(part))]
            collection.add(ids=ids, embeddings=part)

    def open(self) -> None:
        self._chroma = self._client()
        self._collection = self._chroma.get_collection("passages", embedding_function=None)

    def set_effort(self, effort: int) -> None:
        self._collection.modify(configuration={"hnsw": {"ef_search": effort}})
        # An open index keeps the settings that it was opened with.
        self._chroma.close()
        self.open()

    def search(self, query: NDArray[np.float32]) -> Ids:
        found = self._collection.query(query_embeddings=query[None], n_results=K, include=[])
        return np.array(found["ids"][0], dtype=np.int64)

    def _client(self) -> Any:
        import chromadb

        settings = chromadb.Settings(anonymized_telemetry=False)
        return chromadb.PersistentClient(path=str(self.folder), settings=settings)


class LanceDb(Contestant):
    """https://github.com/lancedb/lancedb, its default index (IVF over PQ codes), refined."""

    efforts = ((5, 5), (10, 5), (20, 5), (20, 10), (40, 10), (40, 20), (80, 20), (160, 40))
    """Lists searched, and rows refined as a multiple of K."""

    def build(self, vectors: NDArray[np.float32]) -> None:
        import lancedb
        import pyarrow as pa

        def batches() -> Iterator[Any]:
            for start, part in parts(vectors, 50_000):
                flat = pa.array(part.ravel())
                rows = pa.FixedSizeListArray.from_arrays(flat, self.dim)
                ids = pa.array(np.arange(start, start + len(part)))
                yield pa.RecordBatch.from_arrays([ids, rows], names=["id", "vector"])

        vector = pa.list_(pa.float32(), self.dim)
        schema = pa.schema([pa.field("id", pa.int64()), pa.field("vector", vector)])
        table = lancedb.connect(str(self.folder)).create_table("t", batches(), schema=schema)
        table.create_index(metric="dot", vector_column_name="vector")

    def open(self) -> None:
        import lancedb

        self._table = lancedb.connect(str(self.folder)).open_table("t")

    def set_effort(self, effort: tuple[int, int]) -> None:
        self._probes, self._refine = effort

    def search(self, query: NDArray[np.float32]) -> Ids:
        asked = self._table.search(query).metric("dot").nprobes(self._probes)
        found = asked.refine_factor(self._refine).limit(K).select(["id"]).to_arrow()
        return found["id"].to_numpy().astype(np.int64)  # type: ignore[no-any-return]


class MilvusLite(Contestant):
    """https://github.com/milvus-io/milvus-lite, HNSW as in Milvus' documentation."""

    def build(self, vectors: NDArray[np.float32]) -> None:
        from pymilvus import DataType

        client = self._client()
        schema, index = client.create_schema(), client.prepare_index_params()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        parameters = {"M": 16, "efConstruction": 200}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=parameters)
        client.create_collection("c", schema=schema, index_params=index)
        for start, part in parts(vectors, 5_000):
            rows = [{"id": start + row, "vector": vector} for row, vector in enumerate(part)]
            client.insert("c", rows)
        client.flush("c")
        client.load_collection("c")
        client.close()

    def open(self) -> None:
        self._milvus = self._client()
        self._milvus.load_collection("c")

    def set_effort(self, effort: int) -> None:
        self._effort = effort

    def search(self, query: NDArray[np.float32]) -> Ids:
        parameters = {"params": {"ef": self._effort}}
        found = self._milvus.search("c", [query], limit=K, search_params=parameters)[0]
        return np.array([hit["id"] for hit in found], dtype=np.int64)

    def _client(self) -> Any:
        from pymilvus import MilvusClient

        return MilvusClient(str(self.folder / "milvus.db"))


CONTESTANTS: dict[str, type[Contestant]] = {
    "ours": Ours,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "chromadb": Chroma,
    "lancedb": LanceDb,
    "milvus-lite": MilvusLite,
}


def parts(vectors: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (first row, rows) of a mapped array, some rows at a time."""
    for start in range(0, len(vectors), size):
        yield start, np.ascontiguousarray(vectors[start : start + size])
