"""The code blocks of the README, and a checkout in which they run with settings that make jobs short."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adapters.vlm_quantization.dummy import write_dummy_collection

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Replacements that shorten jobs; each must occur in the README.
SHORTER = {
    'options={"steps": 300,': 'options={"steps": 20, "validate_every": 10, "refit_steps": 10, '
    '"text_tower": "ngrams",',
    "--option steps=300": "--option steps=60 --option validate_every=20 --option refit_steps=10 "
    "--option encoder=random --option text_tower=ngrams --option threads=1",
    "--option protocol=djsrh": "--option protocol=djsrh --option baselines=false --option stability=0",
    'ws.submit("eval")': 'ws.submit("eval", options={"baselines": False, "stability": 0})',
    "--option run=1 --wait": "--option run=1 --option baselines=false --option stability=0 --wait",
    "-p run 1 ": "-p run 1 -p baselines False -p stability 0 ",
    "jobs submit eval --wait --fail-below": "jobs submit eval --wait --option baselines=false "
    "--option stability=0 --fail-below",
    "--option experiment=photos --wait": "--option experiment=photos --option steps=20 "
    "--option validate_every=10 --option refit_steps=10 --option encoder=random "
    "--option text_tower=ngrams --wait",
}

PATIENCE = 240


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line it begins at."""

    language: str
    text: str
    line: int

    @property
    def serves(self) -> bool:
        """Whether it runs until it is stopped."""
        return bool(re.match(r"workbench (serve|worker)|jupyter lab", self.text))


def _blocks() -> list[Block]:
    matches = re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [Block(one[1], one[2], README[: one.start()].count("\n") + 1) for one in matches]


BLOCKS = _blocks()


def shorter(text: str) -> str:
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    return text


def checkout(folder: Path) -> Path:
    """Copy the files that git does not ignore, and link to this environment."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    # As the section on your own pictures describes: a file of captions, with the pictures next to it.
    write_dummy_collection(folder / "photos").rename(folder / "photos" / "captions.jsonl")
    write_foreign_runs(folder)
    return folder


def write_foreign_runs(folder: Path) -> None:
    """Write runs to import: an MLflow folder and a TensorBoard folder."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "runs" / "first")) as writer:
        writer.add_scalar("loss", 0.5, 1)
    run = folder / "mlruns" / "0" / "r1"
    run.mkdir(parents=True)
    (run.parent / "meta.yaml").write_text("name: Default\nlifecycle_stage: active\n")
    (run / "meta.yaml").write_text("run_id: r1\nstatus: 3\nstart_time: 1000\nend_time: 2000\n")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a reader without our variables."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("WORKBENCH", "JUPYTER"))
    }
    path = os.pathsep.join([str(Path(sys.prefix, "bin")), kept.get("PATH", os.defpath)])
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    return {**kept, "PATH": path, "HOME": str(home), "WORKBENCH_WORKER_IDLE": "5", "PYTHONUNBUFFERED": "1"}


def run(folder: Path, script: str, *, code: int = 0) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout
