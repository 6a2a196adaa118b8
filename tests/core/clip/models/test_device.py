"""The choice of a device and of a precision, on made-up GPUs."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from admin.doctor import run_check
from core.clip.errors import BackboneUnavailable, InvalidConfig
from core.clip.models.backbone import Backbone, load_backbone
from core.clip.models.device import (
    allow_tf32,
    device_problem,
    find_device,
    mixed_precision,
)
from core.clip.models.features import build_zero_shot_classifier, image_features
from core.settings import Settings

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
Gpus = Callable[..., None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    """Return a function that sets for each GPU of this machine whether torch has kernels for it."""
    ones = torch.ones

    def set_gpus(*has_kernels: bool) -> None:
        def compute(*size: int, device: torch.device | str = "cpu", **options: Any) -> torch.Tensor:
            device = torch.device(device)
            if device.type == "cuda" and not has_kernels[device.index or 0]:
                raise RuntimeError(f"{NO_KERNEL}\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1")
            return ones(*size, **options)

        monkeypatch.setattr(torch, "ones", compute)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(has_kernels))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(has_kernels))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index or 0}")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_500_000_000, 4_000_000_000))

    return set_gpus


def test_auto_takes_a_gpu_that_torch_can_use(gpus: Gpus, caplog: pytest.LogCaptureFixture) -> None:
    gpus()
    assert find_device("auto") == torch.device("cpu")
    gpus(True)
    assert find_device("auto") == torch.device("cuda")
    assert not caplog.messages
    gpus(False)
    assert find_device("auto") == torch.device("cpu")
    (message,) = caplog.messages
    assert f"can't compute on the GPU 0 ({NO_KERNEL}). Install a newer version" in message
    assert "--index-url https://download.pytorch.org/whl/cu126" in message


def test_a_full_gpu_is_not_a_broken_one(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*size: int, **options: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    gpus(True)
    monkeypatch.setattr(torch, "ones", full)
    assert device_problem(torch.device("cuda")) is None


def test_each_worker_has_its_own_gpu(gpus: Gpus) -> None:
    gpus(True, False)
    assert find_device("cuda:1") == torch.device("cuda:1")
    assert device_problem(torch.device("cuda:0")) is None
    assert "can't compute on the GPU 1" in str(device_problem(torch.device("cuda:1")))
    assert "There is no cuda:2" in str(device_problem(torch.device("cuda:2")))
    assert "cuda:0 to cuda:1" in str(device_problem(torch.device("cuda:2")))


def test_a_backbone_is_not_loaded_onto_a_gpu_without_kernels(gpus: Gpus, tmp_path: Path) -> None:
    gpus(False)
    with pytest.raises(BackboneUnavailable, match="can't compute on the GPU 0"):
        load_backbone("starter", cache=tmp_path, device="cuda")
    gpus()
    with pytest.raises(BackboneUnavailable, match="finds no GPU"):
        load_backbone("starter", cache=tmp_path, device="cuda:0")
    assert not [*tmp_path.iterdir()]


def test_doctor_names_the_gpu_of_the_setting(gpus: Gpus, tmp_path: Path) -> None:
    def look(device: str) -> tuple[str, str]:
        found = run_check("device", Settings(device=device, data=tmp_path))
        return found.state, found.detail

    gpus(True, False)
    assert look("auto") == (
        "ok",
        f"torch {torch.__version__}, GPU 0, 1.5 of 4.0 GB free; CLIPCITE_DEVICE is auto",
    )
    assert look("cuda:1")[0] == "problem"
    assert "GPU 1" in look("cuda:1")[1]
    assert "leaves unused" in look("cpu")[1]
    gpus(False)
    assert look("auto")[0] == "warning"
    assert look("cuda")[0] == "problem"
    gpus()
    assert look("auto")[0] == "ok"
    assert look("cuda")[0] == "problem"


def test_features_with_too_little_memory_are_the_same(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images and prompts are encoded one by one, so that the evaluation does not fail."""
    model = copy.deepcopy(tiny.model)
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    prompts = [["a cat"], ["a dog", "the dog"]]

    def features() -> tuple[torch.Tensor, torch.Tensor]:
        return image_features(model, pixels), build_zero_shot_classifier(model, tiny.tokenize, prompts)

    expected = features()
    for name in ("encode_image", "encode_text"):
        real = getattr(model, name)

        def limited(rows: torch.Tensor, real: Callable[[torch.Tensor], torch.Tensor] = real) -> torch.Tensor:
            if len(rows) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return real(rows)

        monkeypatch.setattr(model, name, limited)
    for one, other in zip(features(), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_precision_by_device() -> None:
    cpu = torch.device("cpu")
    assert mixed_precision("fp32", cpu) is None
    assert mixed_precision("bf16", cpu) is torch.bfloat16
    assert mixed_precision("fp16", torch.device("cuda")) is torch.float16
    assert mixed_precision("tf32", torch.device("cuda")) is None
    for needs_gpu in ("fp16", "tf32"):
        with pytest.raises(InvalidConfig, match=f"{needs_gpu} needs a GPU"):
            mixed_precision(needs_gpu, cpu)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, None),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, None),
    ],
)
def test_auto_is_bf16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert mixed_precision("auto", torch.device("cpu")) is expected


@pytest.fixture
def kept_flags() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.usefixtures("kept_flags")
def test_fp32_is_exact_unless_tf32_is_allowed() -> None:
    """By default, torch computes convolutions of fp32 in TF32."""
    for allowed in (True, False):
        allow_tf32(allowed)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
