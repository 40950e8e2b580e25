"""Which tests are slow: those that start browsers, servers, kernels or trainings, or wait for processes.

``pytest -m "not slow"`` leaves them out and answers in under four minutes. A file belongs here as long as it
takes more than a few seconds on a quiet machine; single tests carry the marker themselves.
"""

from __future__ import annotations

#: Folders of slow tests, below ``tests``.
SLOW_FOLDERS = ("browser/", "faults/", "notebooks/", "stories/", "workbench/jobs/worker/")

#: Slow files, below ``tests``.
SLOW_FILES = frozenset(
    {
        "adapters/test_contract.py",
        "adapters/vlm_quantization/evaluate/test_captions.py",
        "adapters/vlm_quantization/evaluate/test_job.py",
        "adapters/vlm_quantization/index/test_build.py",
        "adapters/vlm_quantization/index/test_build_memory.py",
        "adapters/vlm_quantization/index/test_made_before.py",
        "adapters/vlm_quantization/index/test_one_pass.py",
        "adapters/vlm_quantization/index/test_opened.py",
        "adapters/vlm_quantization/index/test_resealed.py",
        "adapters/vlm_quantization/index/test_chosen.py",
        "adapters/vlm_quantization/index/test_on_engine.py",
        "adapters/vlm_quantization/data/test_decoding.py",
        "adapters/vlm_quantization/data/emoji/test_emoji.py",
        "adapters/vlm_quantization/data/test_external_sort.py",
        "adapters/vlm_quantization/data/test_streaming.py",
        "adapters/vlm_quantization/metrics/test_code_rankings.py",
        "adapters/vlm_quantization/neighbours/test_prefix_codes.py",
        "adapters/vlm_quantization/search/test_slow_pictures.py",
        "adapters/vlm_quantization/test_dummy.py",
        "adapters/vlm_quantization/towers/test_base_size.py",
        "adapters/vlm_quantization/towers/test_own_encoders.py",
        "adapters/vlm_quantization/train/test_state.py",
        "adapters/vlm_quantization/train/test_taken_over.py",
        "adapters/vlm_quantization/train/test_train.py",
        "adapters/vlm_quantization/train/tuning/test_tuning.py",
        "house/test_ci.py",
        "house/test_readme.py",
        "house/test_readme_gate.py",
        "house/test_ready_made.py",
        "house/test_wheel.py",
        "workbench/adapter/test_loading.py",
        "workbench/adapter/test_scaffold.py",
        "workbench/commands/test_cli.py",
        "workbench/commands/test_cluster.py",
        "workbench/commands/test_commands.py",
        "workbench/commands/test_serve.py",
        "workbench/engine/test_dask.py",
        "workbench/engine/test_engines.py",
        "workbench/host/test_signals.py",
        "workbench/jobs/test_jobs.py",
        "workbench/notebooks/test_execution.py",
        "workbench/publish/test_page.py",
        "workbench/publish/test_proxy.py",
        "workbench/publish/test_server.py",
        "workbench/remote/test_comparing.py",
        "workbench/remote/test_runs.py",
        "workbench/remote/test_workspace.py",
        "workbench/runs/imports/test_mlflow.py",
        "workbench/runs/imports/test_tensorboard.py",
        "workbench/runs/test_order.py",
        "workbench/search/test_light.py",
        "workbench/search/test_service.py",
        "workbench/server/test_schema.py",
        "workbench/server/test_server.py",
        "workbench/test_testing.py",
        "workbench/test_typing.py",
        "workbench/test_workspace_contract.py",
    }
)

#: The slow files that take longest, the longest first: those that begin last would end long after all others.
LONG_FILES = (
    "house/test_readme.py",
    "faults/test_postgres.py",
    "faults/test_kills.py",
    "browser/test_lab.py",
    "browser/test_jobs_panel.py",
    "workbench/server/test_schema.py",
    "workbench/publish/test_server.py",
    "browser/test_real_results.py",
    "house/test_readme_gate.py",
    "faults/test_resumed_training.py",
    "workbench/commands/test_cli.py",
    "workbench/adapter/test_scaffold.py",
    "browser/test_start_here.py",
    "browser/test_compare_page.py",
    "browser/test_saved_panels.py",
    "faults/test_io_errors.py",
    "faults/test_disk.py",
    "faults/test_import_kills.py",
)

#: Fixtures that cost a minute or more the first time.
SLOW_FIXTURES = frozenset({"demo_copy", "demo_results", "postgres"})


def is_slow(file: str, fixtures: frozenset[str]) -> bool:
    """Say whether a test is slow, by its file (below ``tests``) and the fixtures that it uses."""
    return file.startswith(SLOW_FOLDERS) or file in SLOW_FILES or bool(SLOW_FIXTURES & fixtures)
