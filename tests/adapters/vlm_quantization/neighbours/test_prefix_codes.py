"""The contract of exact neighbours: every engine against an oracle, for whatever codes there may be."""

import itertools
import sys
import threading

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.neighbours import by_numba, by_numpy, prefix_codes, scans
from adapters.vlm_quantization.neighbours.columns import Columns
from adapters.vlm_quantization.neighbours.compiled import BLOCK
from adapters.vlm_quantization.neighbours.prefix_codes import PrefixCodes

ENGINES = ("numba", "numpy")

#: Numbers of codes around the edges of blocks.
SIZES = (0, 1, 2, 70, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Let both engines meet the edges of their blocks and pieces."""
    monkeypatch.setattr(by_numpy, "BLOCK", BLOCK)
    monkeypatch.setattr(by_numba, "_PIECE", BLOCK)
    monkeypatch.setattr(by_numba, "_ROOM", BLOCK)
    monkeypatch.setattr(by_numba, "_ALONE", 0)
    monkeypatch.setattr(prefix_codes, "_processors", lambda: 4)


ONES = np.array([f"{value:b}".count("1") for value in range(256)])


def distances(codes, query, bits):
    return ONES[codes[:, : bits // 8] ^ query[: bits // 8]].sum(axis=1)


def oracle(codes, query, bits, allowed):
    """Return all allowed rows by (distance, row), and their distances."""
    far = distances(codes, query, bits)
    order = allowed[np.lexsort((allowed, far[allowed]))]
    return order.tolist(), far[order].tolist()


def some_codes(kind, n):
    random = np.random.default_rng(n)
    if kind == "random":
        return random.integers(0, 256, (n, 16), dtype=np.uint8)
    if kind == "duplicates":
        return random.integers(0, 256, (9, 16), dtype=np.uint8)[random.integers(0, 9, n)]
    if kind == "late":  # all that is near stands at the end
        codes = np.full((n, 16), 255, np.uint8)
        codes[max(0, n - 40) :, 9:] = random.integers(0, 256, (min(n, 40), 7), dtype=np.uint8)
        return codes
    return np.full((n, 16), {"zeros": 0, "ones": 255, "equal": 0b10010110}[kind], np.uint8)


def ks(n):
    return sorted({1, 2, 10, 63, n // 2, n - 1, n, n + 5} - {0, -1})


KINDS = ("random", "duplicates", "late", "zeros", "ones", "equal")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", CODE_LENGTHS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_nearest_are_exact_at_every_size_and_k(engine, bits, kind):
    # Not all sizes for all kinds: the edges meet random codes, where everything is different.
    for n in SIZES if kind == "random" else (2, 3 * BLOCK + 1):
        codes = some_codes(kind, n)
        found = PrefixCodes(codes, engine=engine)
        query = codes[n // 2] if n else np.zeros(16, np.uint8)
        rows, far = oracle(codes, query, bits, np.arange(n))
        for k in ks(n):
            got = found.search(query, bits=bits, k=k)
            assert got[0].dtype == got[1].dtype == np.int64
            assert (got[0].tolist(), got[1].tolist()) == (rows[:k], far[:k]), (n, k)


@pytest.mark.parametrize("share", [0, 1, 0.001, 0.02, 0.5, "one", "last", "block"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_filter_comes_before_the_ranking_and_is_exact(engine, share):
    n = 3 * BLOCK + 1
    random = np.random.default_rng(1)
    allowed = np.zeros(n, bool)
    if isinstance(share, str):
        allowed[{"one": slice(77, 78), "last": slice(n - 1, n), "block": slice(BLOCK, 2 * BLOCK)}[share]] = 1
    else:
        allowed = random.random(n) < share
    for kind, bits in itertools.product(("random", "duplicates"), CODE_LENGTHS):
        codes = some_codes(kind, n)
        found = PrefixCodes(codes, engine=engine)
        rows, far = oracle(codes, codes[5], bits, np.flatnonzero(allowed))
        for k, among in itertools.product((1, 10, n), (allowed, np.flatnonzero(allowed))):
            got = found.search(codes[5], bits=bits, k=k, among=among)
            assert (got[0].tolist(), got[1].tolist()) == (rows[:k], far[:k])
        radius = bits // 3
        near = sum(distance <= radius for distance in far)
        got = found.within(codes[5], bits=bits, radius=radius, among=allowed)
        assert (got[0].tolist(), got[1].tolist()) == (rows[:near], far[:near])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_all_within_a_radius_are_found(engine, kind):
    for n, bits in itertools.product((0, 1, 3 * BLOCK + 1), CODE_LENGTHS):
        codes = some_codes(kind, n)
        found = PrefixCodes(codes, engine=engine)
        query = some_codes("random", 1)[0]
        rows, far = oracle(codes, query, bits, np.arange(n))
        for radius in (0, bits // 2, bits, 1000):
            near = sum(distance <= radius for distance in far)
            got = found.within(query, bits=bits, radius=radius)
            assert (got[0].tolist(), got[1].tolist()) == (rows[:near], far[:near])


@pytest.mark.parametrize(
    ("engine", "threads"), [("numba", 1), ("numba", 2), ("numba", 3), ("numba", 7), ("numpy", 7)]
)
def test_many_queries_and_threads_find_what_one_finds(engine, threads, monkeypatch):
    monkeypatch.setattr(prefix_codes, "_GATHERED", 16 * 3 * 84)  # three queries in a turn
    n = 5 * BLOCK - 3
    for kind in ("random", "duplicates", "late", "zeros"):
        codes = some_codes(kind, n)
        found = PrefixCodes(codes, engine=engine)
        queries = np.concatenate([codes[:: n // 5], some_codes("random", 2)])
        for bits in (8, 64, 128):
            rows, far = found.search_many(queries, bits=bits, k=10, threads=threads)
            assert rows.shape == far.shape == (len(queries), 10)
            for query, one, its in zip(queries, rows, far, strict=True):
                expected = distances(codes, query, bits)
                order = np.argsort(expected, kind="stable")[:10]
                assert (one.tolist(), its.tolist()) == (order.tolist(), expected[order].tolist())
    assert found.search_many(queries[:0], bits=8, k=3)[0].shape == (0, 3)


@pytest.mark.parametrize("begun", [0, 2, 5])
def test_a_thread_that_gets_no_processor_is_not_waited_for(begun):
    """Pieces that others have begun, and never finish, are done by the thread that asks."""
    codes = some_codes("random", 5 * BLOCK)

    class Starved:
        def submit(self, call, scan, task, parts):
            task[11][0] = begun
            return self

        def cancel(self):
            return True

    found = PrefixCodes(codes, engine="numba")
    found._by_numba._pool = Starved()
    rows, far = found.search(codes[3], bits=128, k=10, threads=2)
    expected = distances(codes, codes[3], 128)
    order = np.argsort(expected, kind="stable")[:10]
    assert (rows.tolist(), far.tolist()) == (order.tolist(), expected[order].tolist())


def test_threads_that_did_not_help_are_left_out_for_a_while(monkeypatch):
    monkeypatch.setattr(by_numba, "_ALONE", 2)
    codes = some_codes("random", 5 * BLOCK)
    started = []

    class Starved:
        def submit(self, *task):
            started.append(task)
            return self

        def cancel(self):
            return True

    found = PrefixCodes(codes, engine="numba")
    found._by_numba._pool = Starved()
    for _ in range(4):
        found.search(codes[3], bits=128, k=10, threads=2)
    assert len(started) == 2  # the first and the fourth
    found._by_numba._alone = 0
    found.search(codes[3], bits=16, k=10, threads=2)
    assert len(started) == 2  # over before another thread has started
    found.search(codes[3], bits=32, k=10, threads=2)
    assert len(started) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_codes_of_any_width_are_exact(engine):
    random = np.random.default_rng(0)
    lengths = (16, 40, 248, 256, 4096)
    codes = random.integers(0, 256, (BLOCK + 9, 512), dtype=np.uint8)
    codes[3], codes[5] = ~codes[0], codes[0]
    found = PrefixCodes(codes, lengths, engine=engine)
    allowed = np.arange(len(codes)) % 3 != 1
    for bits in lengths:
        rows, far = oracle(codes, codes[0], bits, np.arange(len(codes)))
        got = found.search(codes[0], bits=bits, k=len(codes))
        assert (got[0].tolist(), got[1].tolist()) == (rows, far)
        assert far[-1] == bits
        rows, far = oracle(codes, codes[0], bits, np.flatnonzero(allowed))
        got = found.search(codes[0], bits=bits, k=20, among=allowed)
        assert (got[0].tolist(), got[1].tolist()) == (rows[:20], far[:20])


def test_a_search_reads_the_columns_of_its_length_where_they_are(tmp_path):
    codes = some_codes("random", 300)
    parts = []
    for cut in Columns.of_table(codes, CODE_LENGTHS).cuts:
        np.save(tmp_path / "part.npy", codes[:, cut.first : cut.last])
        parts.append(np.load(tmp_path / "part.npy", mmap_mode="r"))
        (tmp_path / "part.npy").unlink()
    columns = Columns(CODE_LENGTHS, parts)
    read = []

    class Watched(Columns):
        def words(self, at):
            read.append(at)
            words = super().words(at)
            assert np.shares_memory(words, parts[at])
            return words

    columns.__class__ = Watched
    for engine in ENGINES:
        found = PrefixCodes(columns, engine=engine)
        for count, bits in enumerate(CODE_LENGTHS, 1):
            rows, _ = found.search(codes[7], bits=bits, k=5)
            assert rows.tolist() == oracle(codes, codes[7], bits, np.arange(300))[0][:5]
            assert max(read) == count - 1
            read.clear()
    assert isinstance(PrefixCodes(columns, engine="numba")._by_numba, by_numba.NumbaScan)
    assert scans.Scan.__doc__


@pytest.fixture
def without_compiled(monkeypatch):
    """Make the compiled scan look as if it had never been imported in this process."""
    monkeypatch.delitem(sys.modules, "adapters.vlm_quantization.neighbours.compiled", raising=False)
    monkeypatch.delattr("adapters.vlm_quantization.neighbours.compiled", raising=False)


def loaded():
    """Wait for what loads the compiled scan."""
    for thread in threading.enumerate():
        if thread.name == by_numba._LOADER:
            thread.join()


def test_without_numba_numpy_finds_the_same(monkeypatch, without_compiled):
    codes = some_codes("random", 5 * BLOCK)
    expected = PrefixCodes(codes, engine="numpy").search(codes[9], bits=32, k=20)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(prefix_codes, "_FEW", 1)
    for _ in range(2):
        found = PrefixCodes(codes).search(codes[9], bits=32, k=20, threads=2)
        assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        loaded()
    with pytest.raises(wb.BadInput, match="engine 'numba' cannot be loaded") as refused:
        PrefixCodes(codes, engine="numba")
    assert "engine='numpy'" in refused.value.hint


def test_numpy_answers_until_numba_is_loaded(monkeypatch, without_compiled):
    monkeypatch.setattr(prefix_codes, "_FEW", 1)
    codes = some_codes("random", 3 * BLOCK)
    used = []
    for engine in (by_numba.NumbaScan, by_numpy.NumpyScan):
        nearest = engine.nearest
        monkeypatch.setattr(
            engine,
            "nearest",
            lambda self, *task, nearest=nearest: (used.append(self.name), nearest(self, *task))[1],
        )
    monkeypatch.setattr(by_numba, "_load", lambda load=by_numba._load: (go.wait(), load()))
    go = threading.Event()
    found = PrefixCodes(codes)
    found.prepare()
    first = found.search(codes[4], bits=128, k=9)
    assert used == ["numpy"]
    go.set()
    loaded()
    used.clear()
    second = found.search(codes[4], bits=128, k=9)
    assert used == ["numba"]
    assert [part.tolist() for part in first] == [part.tolist() for part in second]


def test_numba_is_not_loaded_for_few_codes(without_compiled):
    codes = some_codes("random", 500)
    found = PrefixCodes(codes)
    found.prepare()
    assert found.search(codes[4], bits=128, k=1)[0].tolist() == [4]
    assert not by_numba.is_ready()
    assert by_numba._LOADER not in {thread.name for thread in threading.enumerate()}


CODES = some_codes("random", 300)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda found: found.search_many(CODES[0], bits=8, k=1), r"uint8 \(q, 16\), not uint8 \(16,\)"),
        (lambda found: found.search_many(CODES[:, :4], bits=8, k=1), r"\(q, 16\), not uint8 \(300, 4\)"),
        (lambda found: found.search_many([b"x"], bits=8, k=1), "not list"),
        (lambda found: found.search_many(CODES, bits=9, k=1), "code length 9. Allowed: 8, 16"),
        (lambda found: found.search(CODES[0], bits=8, k=1, threads=0), "threads must be .*, not 0"),
        (lambda found: found.search(CODES[0], bits=8, k=1, threads=True), "threads must be .*, not True"),
        (lambda found: found.search(CODES[0], bits=8, k=1, among=[True]), r"bool \(300,\), not bool \(1,\)"),
        (lambda found: found.search(CODES[0], bits=8, k=1, among=[3, 3]), "ascend, each once"),
        (lambda found: found.search(CODES[0], bits=8, k=1, among=[-1]), "from 0"),
        (lambda found: found.search(CODES[0], bits=8, k=1, among=[300]), "at most 299"),
        (lambda found: found.search(CODES[0], bits=8, k=1, among=[0.5]), r"rows or bool, not float64 \(1,\)"),
        (lambda found: found.within(CODES[0], bits=8, radius=-1), "radius must be .* at least 0, not -1"),
        (lambda found: found.within(CODES[0], bits=8, radius=1.5), "radius must be .*1.5"),
        (lambda found: found.within(CODES[0], bits=7, radius=1), "code length 7"),
        (lambda found: PrefixCodes(CODES, engine="gpu"), "unknown engine 'gpu'. Allowed: auto, numba, numpy"),
        (lambda found: PrefixCodes(np.unpackbits(CODES, axis=1)), "never packed: 128 columns .* 0 and 1"),
        (lambda found: PrefixCodes(np.unpackbits(CODES, axis=1) * 255), "never packed: .* 0 and 255"),
    ],
)  # fmt: skip
def test_an_error_names_the_value_and_what_is_allowed(call, message):
    with pytest.raises(wb.BadInput, match=message):
        call(PrefixCodes(CODES))


def test_codes_that_were_never_packed_are_refused_with_what_to_do():
    with pytest.raises(wb.BadInput) as refused:
        PrefixCodes(np.unpackbits(CODES, axis=1))
    assert "pack_codes" in refused.value.hint
