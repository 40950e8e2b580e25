"""Bars as tqdm really draws them, as text and as widgets; and in this process."""

import subprocess
import sys

import pytest

from workbench.notebooks.bars import Bar, BarReader, follow


def stream(text: str, name: str = "stderr") -> dict[str, object]:
    return {"msg_type": "stream", "content": {"name": name, "text": text}}


def drawn(program: str) -> str:
    """What a program with bars writes to its standard error."""
    start = "from tqdm import tqdm, trange\n"
    done = subprocess.run([sys.executable, "-c", start + program], capture_output=True, check=True)
    return done.stderr.decode()  # not as text: its carriage returns would become line ends


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_a_bar_is_read_however_its_text_is_cut(piece: int) -> None:
    text = drawn("for i in trange(40, desc='강아지 epoch 1', mininterval=0): pass")
    reader = BarReader()
    seen = [reader.feed(stream(text[at : at + piece])) for at in range(0, len(text), piece)]
    bars = [bars[0] for bars in seen if bars]
    assert bars[-1] == Bar("강아지 epoch 1", 40.0, 40.0) or bars[-1].done >= 39
    assert {bar.name for bar in bars} == {"강아지 epoch 1"}
    assert [bar.done for bar in bars] == sorted(bar.done for bar in bars)


def test_scaled_and_endless_bars_are_read() -> None:
    scaled = drawn("b = tqdm(total=2_500_000, unit='B', unit_scale=True); b.update(1_250_000); b.refresh()")
    assert BarReader().feed(stream(scaled)) == (Bar("", 1.25e6, 2.5e6),)
    endless = drawn("b = tqdm(desc='reading'); b.update(45); b.refresh()")
    assert BarReader().feed(stream(endless)) == (Bar("reading", 45.0, None),)


def test_bars_inside_bars_are_told_apart() -> None:
    text = drawn(
        "for i in trange(3, desc='epoch', mininterval=0):\n"
        "    for j in trange(4, desc='step', leave=False, mininterval=0): pass"
    )
    reader = BarReader()
    both = [bars for at in range(len(text)) if (bars := reader.feed(stream(text[at]))) and len(bars) == 2]
    assert both
    assert {(bars[0].name, bars[1].name) for bars in both} == {("epoch", "step")}
    assert {bars[0].done for bars in both} >= {0.0, 1.0, 2.0}


def test_one_bar_after_another_is_one_bar() -> None:
    text = drawn("for name in 'ab':\n    for j in trange(5, desc=name, mininterval=0): pass")
    reader = BarReader()
    seen = [bars for at in range(len(text)) if (bars := reader.feed(stream(text[at])))]
    assert {len(bars) for bars in seen} == {1}
    assert [seen[0][0].name, seen[-1][0].name] == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["hello\n", "50% done\n", "a [b] c\n", "loss: 3 [x, y]\n", "x" * 100_000, "\r" * 99]
)
def test_other_text_is_no_bar_and_leaves_nothing(text: str) -> None:
    reader = BarReader()
    assert reader.feed(stream(text, "stdout")) is None
    assert len(reader._lines["stdout"]) <= 4096


def test_widgets_of_bars_are_read() -> None:
    def opened(comm: str, model: str, **state: object) -> dict[str, object]:
        data = {"state": {"_model_name": model, **state}}
        return {"msg_type": "comm_open", "content": {"comm_id": comm, "data": data}}

    def moved(comm: str, **state: object) -> dict[str, object]:
        data = {"method": "update", "state": state}
        return {"msg_type": "comm_msg", "content": {"comm_id": comm, "data": data}}

    reader = BarReader()
    assert reader.feed(opened("p", "FloatProgressModel", max=8.0)) is None
    assert reader.feed(opened("l", "HTMLModel")) is None
    assert reader.feed(opened("b", "HBoxModel", children=["IPY_MODEL_l", "IPY_MODEL_p"])) is None
    assert reader.feed(moved("l", value="그림:&nbsp; 25%")) is None
    assert reader.feed(moved("p", value=2.0)) == (Bar("그림", 2.0, 8.0),)
    assert reader.feed(moved("x", value=2.0)) is None
    for number in range(500):
        reader.feed(opened(f"n{number}", "HTMLModel"))
    assert len(reader._widgets) <= 64


def test_bars_of_this_process_are_followed_and_then_left_alone() -> None:
    from tqdm.auto import tqdm
    from tqdm.std import tqdm as plain

    before = plain.refresh, plain.close
    said: list[tuple[Bar, ...]] = []
    with follow(lambda bars: said.append(tuple(bars))):
        for _ in tqdm(range(2), desc="epoch", mininterval=0):
            for _ in tqdm(range(3), desc="step", mininterval=0, leave=False):
                pass
    assert (plain.refresh, plain.close) == before
    assert {tuple(bar.name for bar in bars) for bars in said if bars} == {("epoch",), ("epoch", "step")}
    assert max(bars[0].done for bars in said if bars) == 2
    assert max(bars[1].done for bars in said if len(bars) == 2) == 3
    count = len(said)
    for _ in tqdm(range(3), mininterval=0):
        pass
    assert len(said) == count
