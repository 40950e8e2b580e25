"""The search service: it answers many, it is one a workspace, and nothing an adapter does brings it down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench as wb
from tests.waiting import GUARD, until
from tests.workbench.conftest import in_a_loop, make_index
from workbench import wire
from workbench.host import processes
from workbench.search import messages
from workbench.search.client import LOCK_NAME, PATIENCE_SECONDS, START_SECONDS, SearchClient
from workbench.search.service.limits import Limits

#: Longer than any busy machine needs; a test of what hangs sets a short one.
PATIENT = {"answer_seconds": 120, "open_seconds": 120, "check_seconds": 120}


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Limits of the service that the test starts."""

    class Kept(dict[str, float]):
        def update(self, *others: Any, **more: float) -> None:
            super().update(*others, **more)
            monkeypatch.setenv("WORKBENCH_SEARCH_LIMITS", json.dumps(self))

    kept = Kept()
    kept.update(PATIENT)
    return kept


@pytest.fixture
def client(searched: Path, toy: wb.BaseAdapter, broken: None, limits: dict[str, float]) -> SearchClient:
    make_index(searched, "words")
    make_index(searched, "broken", adapter="broken")
    return SearchClient(searched, patience=300)


def holders(client: SearchClient) -> dict[str, int]:
    return {held["name"]: held["pid"] for held in client.ask({"op": "status"})["holders"]}


# Answering ------------------------------------------------------------------------------------------


def test_an_index_is_searched_as_if_it_were_opened_here(
    client: SearchClient, workspace: wb.Workspace
) -> None:
    there, here = workspace.open_search("words", service=True), workspace.open_search("words")
    for query, k in (("dog", 2), ("강아지", 5)):
        assert there.by_text(query, k).hits == here.by_text(query, k).hits
    assert there.by_image(b"pizza", 1)[0].id == "pizza"
    for pair in (("dog", wb.Term("item", "dot")), (b"pizza", b"dog")):
        assert there.explain(*pair) == here.explain(*pair)
    assert there.schema == here.schema
    assert there.describe() == here.describe()
    assert there.sample_queries() == here.sample_queries()
    assert there.sample_items() == here.sample_items()
    assert there.item_file("dog") == here.item_file("dog")
    with pytest.raises(wb.NotFound, match="'cat'"):
        there.item_file("cat")
    assert (there.name, there.adapter.name, there.adapter.title) == ("words", "toy", "A toy that counts")
    offers = {method: there.adapter.offers(method) for method in ("search_by_text", "search_by_item")}
    assert offers == {"search_by_text": True, "search_by_item": False}


def test_thumbnails_and_notes_come_whole() -> None:
    hits = [wb.Hit("a", 0.5, 3.0, "dog", "개", b"\x89PNG\0\xff", "3/8", 0.4), wb.Hit("b", float("-inf"))]
    told = json.loads(wire.dumps(wb.SearchResult(hits, {"search": 0.25}, note="two", cutoff=1).to_json()))
    back = messages.result_from(told)
    assert back.hits == tuple(hits)
    assert (back.took_ms, back.note, back.cutoff) == ({"search": 0.25}, "two", 1)


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s: s.by_text(" "), wb.BadInput, "empty"),
        (lambda s: s.by_text("dog", 0), wb.BadInput, "k must be"),
        (lambda s: s.by_text("dog", "many"), wb.BadInput, "k must be"),
        (lambda s: s.by_text("dog", object()), wb.BadInput, "plain JSON values"),
        (lambda s: s.by_text("dog", sharp=1), wb.BadOptions, "sharp: unknown option"),
        (lambda s: s.by_image(b""), wb.BadInput, "0 bytes"),
        (lambda s: s.by_item("dog"), wb.NotSupported, "'toy' does not offer search_by_item"),
        (lambda s: s._send({"op": "search", "index": "words", "by": "magic"}), wb.BadInput, "by 'magic'"),
        (
            lambda s: s._send({"op": "search", "index": "words", "by": "image", "image": "%"}),
            wb.BadInput,
            "base64",
        ),
        (lambda s: s._send({"op": "dance"}), wb.BadInput, "dance"),
    ],
)
def test_what_cannot_be_answered_raises_the_same_class_as_here(
    client: SearchClient, ask: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ask(client.open_search("words"))


@pytest.mark.parametrize(
    "name", ["wods", "../indexes/words", "/etc", "words\0", "", ".words", "%2e%2e", "강"]
)
def test_a_name_that_is_no_index_is_unknown_whatever_it_is(client: SearchClient, name: str) -> None:
    with pytest.raises(wb.UnknownIndex, match="Known: broken, words"):
        client.open_search(name)


def test_an_index_without_a_manifest_that_can_be_read_is_corrupt(client: SearchClient) -> None:
    (client.home / "indexes" / "words" / "manifest.json").write_text("{")
    with pytest.raises(wb.CorruptFile, match="manifest") as raised:
        client.open_search("words")
    assert "not a manifest" in raised.value.reason


def test_adapters_are_described_and_options_checked(client: SearchClient) -> None:
    told = client.ask({"op": "adapter", "adapter": "toy"})
    assert told["job_types"] == ["train", "eval", "index_build", "data_check"]
    assert told["options"]["eval"]["properties"]["k"]["default"] == 3
    assert told["metrics"][0]["better"] == "lower"
    question = {"op": "check", "adapter": "toy", "type": "eval", "options": {"k": 7}}
    assert client.ask(question)["options"]["k"] == 7
    with pytest.raises(wb.BadOptions) as raised:
        client.ask({**question, "options": {"k": "x"}})
    assert raised.value.problems[0][0] == "k"
    with pytest.raises(wb.UnknownAdapter, match="toy"):
        client.ask({"op": "adapter", "adapter": "tory"})


def test_a_jobs_inputs_and_floors_are_checked_against_the_workspace(
    client: SearchClient, workspace: wb.Workspace
) -> None:
    where = {"path": str(workspace.path), "database_url": workspace.store.address}
    question = {"op": "check", "adapter": "vlm_quantization", "type": "eval", "workspace": where}
    with pytest.raises(wb.BadOptions) as raised:
        client.ask({**question, "options": {"run": 99999}, "fail_below": {"R@10": 0.3}})
    assert [field for field, _ in raised.value.problems] == ["run", "fail_below"]
    with workspace.start_run("e"):
        pass
    with pytest.raises(wb.BadOptions, match="the newest is 1"):  # this database, and as it is now
        client.ask({**question, "options": {"run": 99999}})


def test_the_loop_of_a_server_asks_without_a_thread(client: SearchClient) -> None:
    async def ask() -> list[Any]:
        question = {"op": "search", "index": "words", "by": "text", "text": "dog", "k": 1}
        return await asyncio.gather(*(client.ask_async(question) for _ in range(10)))

    assert [one["hits"][0]["id"] for one in in_a_loop(ask())] == ["dog"] * 10


# One a workspace ------------------------------------------------------------------------------------


def test_many_who_come_at_once_start_one_service_that_opens_the_index_once(client: SearchClient) -> None:
    def visit(_: int) -> str:
        return str(SearchClient(client.home).open_search("words").by_text("dog", 1)[0].id)

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(visit, range(24))) == {"dog"}
    assert len(holders(client)) == 1
    started = (client.home / "search-service.log").read_text()
    assert "another search service" not in started


def test_a_service_that_is_killed_is_started_again_for_the_next_question(client: SearchClient) -> None:
    searcher = client.open_search("words")
    before = client.ask({"op": "status"})["pid"]
    held = holders(client)["words"]
    os.kill(before, signal.SIGKILL)
    assert searcher.by_text("dog", 1)[0].id == "dog"
    assert client.ask({"op": "status"})["pid"] != before
    until(lambda: not processes.started(held))  # the index it held did not stay behind


def test_a_service_leaves_when_nobody_asks_and_takes_everything_with_it(
    client: SearchClient, limits: dict[str, float]
) -> None:
    limits.update(idle_seconds=0.5, read_seconds=GUARD)

    def opened() -> int:
        client.open_search("words")
        return holders(client).get("words", 0)

    with socket.socket(socket.AF_UNIX) as silent:  # as long as this one is connected, it stays
        silent.connect(client.start())
        until(opened)
        held = opened()
        said = json.loads((client.home / LOCK_NAME).read_text())
    until(lambda: not processes.started(said["pid"]) and not processes.started(held))
    assert not Path(said["socket"]).parent.exists()
    assert client.open_search("words").by_text("dog", 1)[0].id == "dog"


def test_a_service_that_is_told_to_end_waits_for_nobody(client: SearchClient) -> None:
    client.open_search("words")
    pid = client.ask({"op": "status"})["pid"]
    with socket.socket(socket.AF_UNIX) as silent:  # connected, and sends nothing
        silent.connect(client.start())
        until(lambda: client.ask({"op": "status"})["connections"] == 2)
        os.kill(pid, signal.SIGTERM)
        until(lambda: not processes.started(pid))
    assert client.open_search("words").by_text("dog", 1)[0].id == "dog"


def test_the_service_is_no_part_of_the_job_it_was_started_from(
    client: SearchClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processes.TOKEN, "0123abcd")
    monkeypatch.setenv("WORKBENCH_JOB", "7")
    client.open_search("words")
    assert processes.carriers("0123abcd") == []


def test_relative_paths_are_those_of_who_asks_and_not_of_who_started_it(
    client: SearchClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("starter", "asker"):
        (tmp_path / name).mkdir()
    check = {"op": "check", "adapter": "broken", "type": "eval", "options": {"path": "photos/c.jsonl"}}
    for name in ("starter", "asker", "starter"):
        monkeypatch.chdir(tmp_path / name)
        checked = client.ask(check)["options"]
        assert checked["path"] == str(tmp_path / name / "photos" / "c.jsonl")
        assert in_a_loop(client.ask_async(check))["options"] == checked  # as the server asks
    with pytest.raises(wb.BadInput, match="cannot be entered"):
        client.ask({**check, "cwd": str(tmp_path / "missing")})


def test_nobody_else_may_enter_where_it_listens(client: SearchClient) -> None:
    client.open_search("words")
    folder = Path(json.loads((client.home / LOCK_NAME).read_text())["socket"]).parent
    assert folder.stat().st_mode & 0o777 == 0o700


def test_an_index_that_was_built_anew_is_opened_anew(client: SearchClient) -> None:
    searcher = client.open_search("words")
    assert len(searcher.by_text("cat", 9)) == 5
    make_index(client.home, "words.new", words=["cat"])
    (client.home / "indexes" / "words.new" / "manifest.json").replace(
        client.home / "indexes" / "words" / "manifest.json"
    )
    assert [hit.id for hit in searcher.by_text("cat", 9)] == ["cat"]
    until(lambda: len(holders(client)) == 1)


# Nothing an adapter does --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "error", "says"),
    [
        ("raise", wb.SearchFailed, "Internal error in the search"),
        ("refuse", wb.BadInput, "not this"),
        ("crash", wb.SearchFailed, "SIGSEGV"),
        ("exit", wb.SearchFailed, "code 7"),
        ("quit", wb.SearchFailed, "code 3"),
        ("hang", wb.SearchFailed, r"did not answer within 1\.5 s"),
        ("flood bytes", wb.SearchFailed, "the answer must be at most"),
    ],
)
def test_an_index_that_breaks_fails_its_question_and_nothing_else(
    client: SearchClient, limits: dict[str, float], query: str, error: type[Exception], says: str
) -> None:
    if query == "hang":  # the others end by themselves
        limits.update(answer_seconds=1.5)
    words, broken = client.open_search("words"), client.open_search("broken")
    before = holders(client)
    with pytest.raises(error, match=says) as raised:
        broken.by_text(query)
    assert "secret" not in str(raised.value)
    assert words.by_text("dog", 1)[0].id == "dog"
    assert holders(client)["words"] == before["words"]
    assert broken.by_text("fine")[0].id.startswith("fine")


def test_what_an_adapter_prints_goes_to_the_log(client: SearchClient) -> None:
    assert client.open_search("broken").by_text("print")[0].id.startswith("print")
    assert "{{{{" in (client.home / "search-service.log").read_text(errors="replace")


def test_a_score_that_is_no_number_comes_as_it_is(client: SearchClient) -> None:
    score = client.open_search("broken").by_text("nan")[0].score
    assert score != score  # NaN


@pytest.mark.parametrize("how", ["crash", "hang", "raise"])
def test_an_index_that_breaks_while_it_is_opened(
    client: SearchClient, limits: dict[str, float], how: str
) -> None:
    if how == "hang":
        limits.update(open_seconds=4, failures=1000)
    make_index(client.home, "bad", adapter="broken", open=how)
    until(lambda: client.open_search("words"), despite=wb.SearchFailed)  # a busy machine may need longer once
    words = client.open_search("words")
    with pytest.raises(wb.SearchFailed, match="index 'bad'"):
        client.open_search("bad")
    assert words.by_text("dog", 1)[0].id == "dog"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("crashes", wb.SearchFailed, "SIGSEGV"),
        ("raises", wb.AdapterBroken, "adapter 'raises' cannot be loaded: RuntimeError: not today"),
    ],
)
def test_an_adapter_that_breaks_at_import(
    client: SearchClient, name: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        client.ask({"op": "adapter", "adapter": name})
    assert client.ask({"op": "adapter", "adapter": "toy"})["name"] == "toy"


@pytest.mark.parametrize("how", ["crash", "hang", "raise", "exit"])
def test_an_adapter_that_breaks_while_it_checks_options(
    client: SearchClient, limits: dict[str, float], how: str
) -> None:
    if how == "hang":
        limits.update(check_seconds=4, failures=1000)
    question = {"op": "check", "adapter": "broken", "type": "eval", "options": {"check": how}}
    with pytest.raises(wb.SearchFailed):
        client.ask(question)
    checked: dict[str, Any] = {}
    # With the short limit, a busy machine may need longer once.
    until(lambda: checked.update(client.ask({**question, "options": {}})) or checked, despite=wb.SearchFailed)
    assert checked["options"] == {"check": "", "path": ""}


def test_what_breaks_again_and_again_is_left_alone_for_a_while(client: SearchClient) -> None:
    broken = client.open_search("broken")
    for _ in range(3):
        with pytest.raises(wb.SearchFailed):
            broken.by_text("crash")
    with pytest.raises(wb.Busy, match="failed 3 times") as raised:
        broken.by_text("fine")
    assert 1 <= raised.value.retry_after <= 60
    assert client.open_search("words").by_text("dog", 1)[0].id == "dog"


def test_a_hanging_index_leaves_no_child_behind(client: SearchClient, limits: dict[str, float]) -> None:
    limits.update(answer_seconds=2, failures=1000)
    broken = client.open_search("broken")
    found: list[processes.Process] = []

    def child_seen() -> bool:
        """Ask once, and look for the child until the holder is ended; it may be too slow to start one."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(broken.by_text, "leave a child")
            while not asked.done():
                if pid := holders(client).get("broken"):
                    held = processes.Process(pid, processes.started(pid))
                    found.extend(one for one in processes.family(held) if one.pid != pid)
            with pytest.raises(wb.SearchFailed):
                asked.result()
        return bool(found)

    until(child_seen)
    until(lambda: not any(processes.alive(*one) for one in found))


def test_those_who_wait_behind_a_crash_are_answered_by_the_next_holder(
    client: SearchClient, tmp_path: Path
) -> None:
    broken = client.open_search("broken")
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(broken.by_text, f"hold {tmp_path / 'released'}")
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 1)
        crash = pool.submit(broken.by_text, "crash")
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 2)
        others = [pool.submit(broken.by_text, f"other {number}") for number in range(4)]
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 6)
        (tmp_path / "released").touch()
        assert first.result(GUARD)[0].id.startswith("hold")
        with pytest.raises(wb.SearchFailed):
            crash.result(GUARD)
        assert all(other.result(GUARD)[0].id.startswith("other") for other in others)


def test_more_than_may_wait_are_told_that_it_is_busy(
    client: SearchClient, limits: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits.update(waiting=2)
    monkeypatch.setattr("workbench.search.client.BUSY_SECONDS", 0.2)
    broken, words = client.open_search("broken"), client.open_search("words")
    with ThreadPoolExecutor(2) as pool:
        two = [pool.submit(broken.by_text, f"hold {tmp_path / 'released'}") for _ in range(2)]
        until(lambda: max(held["waiting"] for held in client.ask({"op": "status"})["holders"]) == 2)
        with pytest.raises(wb.Busy, match="too many concurrent requests"):
            broken.by_text("fine")
        assert words.by_text("dog", 1)[0].id == "dog"
        (tmp_path / "released").touch()
        assert all(one.result(GUARD) for one in two)


def test_a_full_queue_is_waited_for(client: SearchClient, limits: dict[str, float]) -> None:
    limits.update(waiting=2)
    words = client.open_search("words")
    with ThreadPoolExecutor(12) as pool:
        found = [pool.submit(words.by_text, "dog", 1) for _ in range(24)]
        assert {one.result(GUARD)[0].id for one in found} == {"dog"}

    async def at_once() -> list[dict[str, Any]]:
        question = {"op": "search", "index": "words", "by": "text", "text": "dog", "k": 1}
        return await asyncio.gather(*(client.ask_async(question) for _ in range(12)))

    assert {answer["hits"][0]["id"] for answer in in_a_loop(at_once())} == {"dog"}


def test_the_index_that_was_not_asked_for_longest_makes_room(
    client: SearchClient, limits: dict[str, float]
) -> None:
    limits.update(open_indexes=2)
    for name in ("a", "b", "c"):
        make_index(client.home, name)
        client.open_search(name)
    assert set(holders(client)) == {"b", "c"}


def test_an_index_that_eats_the_memory_is_stopped(client: SearchClient, limits: dict[str, float]) -> None:
    limits.update(memory=250 * 2**20)
    words, broken = client.open_search("words"), client.open_search("broken")
    broken.by_text("fine")
    held = holders(client)["broken"]
    reasons: list[str] = []
    try:
        broken.by_text("grow")
    except wb.SearchFailed as error:  # it was noticed before it had answered
        reasons.append(error.message)
    assert all("(limit: 250 MiB) and was stopped" in reason for reason in reasons)
    until(lambda: not processes.started(held))
    log = (client.home / "search-service.log").read_text()
    assert "index 'broken' used " in log
    assert "(limit: 250 MiB) and is stopped" in log
    assert broken.by_text("fine")[0].id.startswith("fine")
    assert words.by_text("dog", 1)[0].id == "dog"


# Whoever speaks to it ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", None),
        (b"\0\0", None),
        (struct.pack(">I", 2**32 - 1), "TooLarge"),
        (struct.pack(">I", 10) + b"{", None),
        (messages.framed(b"{"), "BadInput"),
        (messages.framed(b"[]"), "BadInput"),
        (messages.framed(b"\xff\xfe"), "BadInput"),
        (messages.framed(b'{"op": "search"}'), "UnknownIndex"),
        (messages.framed(b'{"op": ["search"]}'), "BadInput"),
        (messages.framed(b"[" * 100_000), "BadInput"),
    ],
)
def test_nonsense_is_refused_and_the_next_is_served(
    client: SearchClient, data: bytes, says: str | None
) -> None:
    client.open_search("words")
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(GUARD)
        raw.connect(client.start())
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        if says is None:
            with pytest.raises(EOFError):
                messages.receive(raw, messages.ANSWER_BYTES)
        else:
            assert json.loads(messages.receive(raw, messages.ANSWER_BYTES))["error"]["type"] == says
    assert client.open_search("words").by_text("dog", 1)[0].id == "dog"


def test_one_who_hangs_up_while_waiting_is_not_searched_for(client: SearchClient, tmp_path: Path) -> None:
    broken = client.open_search("broken")
    question = {"op": "search", "index": "broken", "by": "text", "text": "crash", "k": 1}
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(broken.by_text, f"hold {tmp_path / 'released'}")
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 1)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(client.start())
            raw.sendall(messages.framed(json.dumps(question).encode()))
            until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 2)
        (tmp_path / "released").touch()
        assert slow.result(GUARD)
    until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 0)
    assert broken.by_text("fine")[0].id.split()[1] == slow.result()[0].id.split()[2]  # the same process


def test_a_clients_patience_covers_all_that_the_service_may_take() -> None:
    limits = Limits()
    assert START_SECONDS + limits.open_seconds + limits.answer_seconds <= PATIENCE_SECONDS
    assert START_SECONDS + limits.check_seconds <= PATIENCE_SECONDS


@pytest.mark.parametrize("text", ["{", "[1]", '{"doors": 3}', '{"waiting": "x"}'])
def test_limits_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("WORKBENCH_SEARCH_LIMITS", text)
    with pytest.raises(wb.BadInput, match=r"\$WORKBENCH_SEARCH_LIMITS"):
        Limits.from_environment()


def test_a_visitor_loads_neither_the_database_nor_an_adapter(client: SearchClient) -> None:
    program = (
        "import sys, workbench.search.client as c, pathlib\n"
        f"s = c.SearchClient(pathlib.Path({str(client.home)!r})).open_search('words')\n"
        "assert s.by_text('dog', 1)[0].id == 'dog'\n"
        "print([name for name in ('torch', 'sqlalchemy', 'toy_adapter', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


# Pictures -------------------------------------------------------------------------------------------


def test_a_picture_that_is_slow_to_decode_holds_up_no_other_search(
    client: SearchClient, tmp_path: Path
) -> None:
    broken = client.open_search("broken")
    broken.by_text("fine")
    with ThreadPoolExecutor(3) as pool:
        slow = f"hold {tmp_path / 'released'}".encode()
        pictures = [pool.submit(broken.by_image, slow) for _ in range(3)]
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 3)
        for number in range(10):
            assert broken.by_text(f"text {number}")[0].id.startswith(f"text {number}")
        assert not any(picture.done() for picture in pictures)
        (tmp_path / "released").touch()
        for picture in pictures:
            assert picture.result(GUARD)[0].id.startswith("picture: hold ")
    took = broken.by_image(b"sleep 0.3").took_ms
    assert took["total"] >= took["decode"] >= 300


def test_pictures_wait_in_a_queue_of_their_own(
    client: SearchClient, limits: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.search.client.BUSY_SECONDS", 0.2)
    limits.update(waiting=1, pictures=2)
    broken = client.open_search("broken")
    with ThreadPoolExecutor(2) as pool:
        slow = f"hold {tmp_path / 'released'}".encode()
        two = [pool.submit(broken.by_image, slow) for _ in range(2)]
        until(lambda: client.ask({"op": "status"})["holders"][0]["waiting"] == 2)
        with pytest.raises(wb.Busy, match="too many concurrent searches with a picture"):
            broken.by_image(b"fine")
        assert broken.by_text("fine")[0].id.startswith("fine")
        (tmp_path / "released").touch()
        assert all(one.result(GUARD) for one in two)
    assert broken.by_image(b"fine")[0].id.startswith("picture: fine")


def test_a_picture_that_is_refused_says_why_and_a_hang_is_ended(
    client: SearchClient, limits: dict[str, float]
) -> None:
    limits.update(answer_seconds=4, failures=1000)
    broken = client.open_search("broken")
    with pytest.raises(wb.BadInput, match="not this"):
        broken.by_image(b"refuse")
    with pytest.raises(wb.SearchFailed, match=r"Internal error in the search\.") as failed:
        broken.by_image(b"raise")
    assert "secret" not in str(failed.value)
    with pytest.raises(wb.SearchFailed, match="crashed"):
        broken.by_image(b"crash")
    with pytest.raises(wb.SearchFailed, match="did not answer within"):
        broken.by_image(b"hang")
    until(lambda: broken.by_image(b"fine"), despite=wb.SearchFailed)  # a busy machine may need longer once
    assert broken.by_image(b"fine")[0].id.startswith("picture: fine")


def test_silent_and_slow_clients_do_not_keep_others_out(
    client: SearchClient, limits: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.search.client.BUSY_SECONDS", 0.1)
    limits.update(connections=4, read_seconds=3.0)
    assert client.ask({"op": "status"})["connections"] == 1
    path = json.loads((client.home / LOCK_NAME).read_text())["socket"]

    def kept_out_for_a_while() -> bool:
        with ExitStack() as stack:
            opened = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(4)]
            for one, first in zip(opened, (b"", b"\0", b"\0\0\0\x10", b"\0\0\0\x10{"), strict=True):
                one.connect(path)
                one.sendall(first)
            try:
                client.ask({"op": "status"})
            except wb.Busy:
                for one in opened:
                    one.settimeout(GUARD)
                    assert one.recv(1) == b""
                return True
        return False  # on a busy machine they may have been disconnected already

    until(kept_out_for_a_while)
    assert client.ask({"op": "search", "index": "words", "by": "text", "text": "dog", "k": 1})["hits"]


def test_an_answer_that_comes_before_the_question_was_read_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = socket.socketpair()
    there.sendall(messages.framed(json.dumps({"ok": {"hits": []}}).encode()))
    there.close()
    monkeypatch.setattr(SearchClient, "_connection", lambda *_: here)
    assert SearchClient(tmp_path).ask({"op": "status"}) == {"hits": []}


def test_a_service_that_a_visitors_kernel_starts_has_no_limit_of_that_kernel(client: SearchClient) -> None:
    program = (
        "import sys; from pathlib import Path; from workbench.host.memory import limit_memory;"
        "from workbench.search.client import SearchClient; limit_memory(2**28);"
        "print(SearchClient(Path(sys.argv[1])).ask({'op': 'status'})['pid'])"
    )
    environment = {**os.environ, "WORKBENCH_PUBLISHED": "1"}
    command = [sys.executable, "-c", program, str(client.home)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    service = psutil.Process(int(done.stdout))
    assert service.rlimit(psutil.RLIMIT_DATA)[0] == psutil.RLIM_INFINITY
    assert "WORKBENCH_PUBLISHED" not in service.environ()
