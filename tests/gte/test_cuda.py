"""The path through a GPU: followed without one by fake tensors, and run where there is one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from retrieval.gte import EncoderConfig, GteModel, Pooling, load_model, pack
from retrieval.gte import attention as attention_module
from tests.conftest import GOLDEN

LENGTHS = (5, 12, 12, 1)
DEVICE = "cuda:0"
ROWS = [[7 + position for position in range(length)] for length in LENGTHS]


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    attention_module._has_varlen.cache_clear()
    yield
    attention_module._has_varlen.cache_clear()


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("name", ["base_ntk_short", "large_tt2"])
def test_no_step_on_a_gpu_waits_for_a_value(
    name: str, pooling: Pooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake tensor has no value: asking for one, which would stop the queue, is an error.

    Fake tensors on the CPU, since a build of torch without CUDA can't slice those on a GPU.
    """
    calls = []
    varlen = attention_module._varlen

    def counted(*arguments: object) -> torch.Tensor:
        calls.append(arguments[-1])
        return varlen(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attention_module, "_varlen", counted)
    monkeypatch.setattr(attention_module, "takes_varlen", lambda _: True)
    config = EncoderConfig.from_folder(GOLDEN / name)
    batch = pack(ROWS)
    with FakeTensorMode() as mode, torch.inference_mode():
        with torch.device("meta"):
            model = GteModel(config)
        for module in model.modules():
            for key, value in module._parameters.items():
                if value is not None:
                    fake = torch.empty(value.shape, dtype=torch.bfloat16)
                    module._parameters[key] = torch.nn.Parameter(fake, requires_grad=False)
        model.prepare(device="cpu", dtype=torch.bfloat16)
        token_ids, positions, cu_seqlens = (
            mode.from_tensor(part) for part in (batch.token_ids, batch.positions, batch.cu_seqlens)
        )
        batch = replace(batch, token_ids=token_ids, positions=positions, cu_seqlens=cu_seqlens)
        vectors = model.embed(batch, pooling)
    assert vectors.shape == (len(LENGTHS), config.hidden_size)
    assert vectors.dtype == torch.float32
    # One call a layer for all texts; the last layer asks for the pooled tokens only.
    last = (12, 12) if pooling == "mean" else (1, 12)
    assert calls == [(12, 12)] * (config.num_layers - 1) + [last]


@pytest.mark.usefixtures("hopper")
def test_which_queries_go_through_varlen() -> None:
    def takes(head_dim: int, dtype: torch.dtype, device: str) -> bool:
        with FakeTensorMode():
            query = torch.empty(3, 2, head_dim, dtype=dtype, device=device)
        return attention_module.takes_varlen(query)

    assert takes(64, torch.bfloat16, DEVICE)
    assert takes(256, torch.float16, DEVICE)
    assert not takes(64, torch.float32, DEVICE)
    assert not takes(12, torch.bfloat16, DEVICE)
    assert not takes(264, torch.bfloat16, DEVICE)
    assert not takes(64, torch.bfloat16, "cpu")


def test_older_gpus_take_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    attention_module._has_varlen.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with FakeTensorMode():
        query = torch.empty(3, 2, 64, dtype=torch.bfloat16, device=DEVICE)
    assert not attention_module.takes_varlen(query)
    attention_module._has_varlen.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@pytest.mark.parametrize("name", ["base_ntk_short", "large_tt2"])
def test_a_gpu_agrees_with_the_cpu(name: str, pooling: Pooling) -> None:
    exact = load_model(GOLDEN / name).embed(pack(ROWS), pooling)
    half = load_model(GOLDEN / name, dtype=torch.bfloat16, device="cuda")
    vectors = half.embed(pack(ROWS, device="cuda"), pooling).cpu()
    assert (vectors * exact).sum(dim=1).min() > 0.999
