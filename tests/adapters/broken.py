"""An adapter that breaks in every possible way, chosen by the query, an option or an index's manifest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import workbench as wb


class Options(wb.Options):
    check: str = ""
    path: str = ""

    def model_post_init(self, context):
        self.path = self.path and str(Path(self.path).absolute())
        if self.check:
            do(self.check)


def do(what):
    if what == "raise":
        raise RuntimeError("a secret of the machine")
    if what == "refuse":
        raise wb.BadInput("not this", hint="That.")
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(7)
    if what == "quit":
        sys.exit(3)
    if what == "hang":
        while True:
            time.sleep(60)
    if what == "leave a child":
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        subprocess.Popen(sleeper, start_new_session=True)
        time.sleep(600)
    if what == "print":
        print("{" * 1000, flush=True)
        os.write(1, b"\x00" * 1000)
    if what == "grow":
        do.kept = bytearray(300 * 2**20)
        do.kept[::4096] = b"x" * len(do.kept[::4096])
    if what.startswith("hold "):  # until a file is there
        while not Path(what.split()[1]).exists():
            time.sleep(0.01)
    if what.startswith("sleep "):
        time.sleep(float(what.split()[1]))


class Broken(wb.BaseAdapter):
    name, title = "broken", "Breaks"

    def options(self, task):
        return Options

    def evaluate(self, options, job):
        return wb.Result()

    def load_index(self, path):
        do(json.loads((path / "manifest.json").read_text()).get("open", ""))
        return path.name

    def open_picture(self, data):
        do(data.decode())
        return data.decode()

    def search_by_image(self, index, data, k, options):
        return self.search_by_text(index, f"picture: {data}", k, options)

    def search_by_text(self, index, query, k, options):
        do(query)
        score = float("nan") if query == "nan" else 1.0
        thumbnail = bytes(51 * 2**20) if query == "flood bytes" else None
        return wb.SearchResult([wb.Hit(f"{query} {os.getpid()}", score, thumbnail=thumbnail)])


adapter = Broken()
