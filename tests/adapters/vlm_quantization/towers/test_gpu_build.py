"""The script that is prepared for a GPU runs from beginning to end, here on the CPU and a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.vlm_quantization.towers.small_models import make_siglip

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_on_a_cpu_with_equal_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_build

    model = make_siglip(tmp_path / "model")
    words = ["--device", "cpu", "--encoder", str(model), "--pictures", "24", "--compared", "6"]
    found = gpu_build.main([*words, "--batch-size", "8", "--rounds", "1"])
    assert found["build"]["pictures"] == 24
    assert found["parity"] == {
        "pictures": 6,
        "bits that differ": 0,
        "of bits": 6 * 128,
        "lowest cosine": pytest.approx(1, abs=1e-6),
        "largest difference": 0.0,
    }
    assert found["overlap"]["pictures"] == 24
    assert found["overlap"]["bare, pictures/s"] > 0
    assert '"parity"' in capsys.readouterr().out
