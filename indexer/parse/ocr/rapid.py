"""RapidOCR: PaddleOCR's models, run by ONNX Runtime. They are in its wheel; nothing is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
import rapidocr

from indexer.parse.ocr.recognize import MAX_SIDE, Recognized

if TYPE_CHECKING:
    from indexer.parse.ocr.recognize import Picture

_MODELS = {"Det": "*_det_*.onnx", "Cls": "*_cls_*.onnx", "Rec": "*_rec_*.onnx"}
"""Models that find lines, tell which are upside down, and read them."""


class RapidRecognizer:
    """RapidOCR with the models in its wheel, on one core."""

    def __init__(self) -> None:
        """Load no model yet."""
        self._engine: Any = None

    def __call__(self, picture: "Picture") -> Sequence[Recognized]:
        """Return the lines of a picture from top to bottom."""
        if self._engine is None:
            self._engine = _load()
        # It expects blue, green, red.
        found = self._engine(picture[:, :, ::-1])
        if found.txts is None:
            return []
        return [
            Recognized(
                text,
                *map(float, (box[:, 0].min(), box[:, 1].min(), box[:, 0].max(), box[:, 1].max())),
            )
            for box, text in zip(found.boxes, found.txts, strict=True)
        ]


def _load() -> Any:  # noqa: ANN401 -- has no types
    onnxruntime.set_default_logger_severity(4)
    folder = Path(rapidocr.__file__).parent / "models"
    # Named by their paths, the models are never looked for on the network.
    models = {
        f"{part}.model_path": str(next(iter(sorted(folder.glob(pattern)))))
        for part, pattern in _MODELS.items()
    }
    # A reader process has one core.
    threads = {f"EngineConfig.onnxruntime.{name}_op_num_threads": 1 for name in ("intra", "inter")}
    settings = {"Global.log_level": "critical", "Global.max_side_len": MAX_SIDE}
    return rapidocr.RapidOCR(params={**settings, **threads, **models})
