"""Pictures are decoded in processes of their own, which are kept, and replaced where a picture breaks one."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from adapters.vlm_quantization.data import decoder, decoding
from tests.adapters.vlm_quantization.data.hostile import encoded, noise
from tests.waiting import until
from workbench.host import processes

LIMIT = 25_000_000
PICTURE = encoded(noise(40, 30))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    pool = decoding._Pool()
    monkeypatch.setattr(decoding, "_POOL", pool)
    yield pool
    pool.end()


@pytest.fixture
def slow(monkeypatch, tmp_path):
    """Use a decoder that does what the picture says."""
    script = tmp_path / "slow_decoder.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, os, time, signal
            sys.path.insert(0, {str(Path(decoder.__file__).parent)!r})
            import decoder
            def decode(data, *_):
                if data == b"spin":
                    while True: pass
                if data == b"sleep": time.sleep(60)
                if data == b"crash": os.kill(os.getpid(), signal.SIGSEGV)
                if data == b"leave": os._exit(3)
                if data == b"eat": bytearray(2**40)
                if data == b"lie": return decoder.Image.new("RGB", (5, 5))
                return original(data, *_)
            original, decoder.decode = decoder.decode, decode
            sys.exit(decoder.main())
            """
        )
    )
    monkeypatch.setattr(decoding.decoder, "__file__", str(script))
    monkeypatch.setattr(decoding, "SECONDS", 1)
    monkeypatch.setattr(decoding, "PATIENCE", 100)  # this machine may be busy
    return script


def pixels(data):
    return decoding.pixels_of_picture(data, LIMIT, "")


def test_the_pixels_and_the_digest_are_those_of_a_decoder_here(tmp_path, fresh):
    path = tmp_path / "사진.png"
    path.write_bytes(PICTURE)
    here = decoder.decode(PICTURE, LIMIT)
    for source in (PICTURE, path):
        there = pixels(source)
        assert (there.size, there.mode, there.tobytes()) == ((40, 30), "RGB", here.tobytes())
        digest = decoding.digest_of_picture(source, LIMIT, "")
        assert digest == decoder.digest_of(here.size, here.tobytes())
    assert len(fresh._idle) == 1  # one process decoded all of them


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"spin", "takes more than 1 s to decode"),
        (b"crash", "ended its decoder: SIGSEGV"),
        (b"leave", "exit code 3"),
        (b"eat", r"takes more than 1\.9 GiB of memory"),
    ],
)
def test_a_picture_that_exceeds_a_limit_is_refused_and_the_next_is_decoded(slow, fresh, data, reason):
    with pytest.raises(decoder.Refused, match=reason):
        pixels(data)
    assert pixels(PICTURE).size == (40, 30)


def test_a_decoder_that_hangs_is_ended(slow, monkeypatch):
    monkeypatch.setattr(decoding, "PATIENCE", 0.5)
    with pytest.raises(decoder.Refused, match=r"takes more than 0\.5 s to decode"):
        pixels(b"sleep")
    monkeypatch.setattr(decoding, "PATIENCE", 100)  # a busy machine takes longer to start the next one
    assert pixels(PICTURE).size == (40, 30)


def test_time_is_counted_for_each_picture_by_itself(fresh, monkeypatch):
    monkeypatch.setattr(decoding, "SECONDS", 1)
    monkeypatch.setattr(decoding, "PATIENCE", 100)
    large = encoded(noise(1500, 1500), "JPEG")
    spent = 0.0
    while spent < 2.1:  # more than one picture may take
        pixels(large)
        (process,) = fresh._idle
        spent = sum(psutil.Process(process._child.pid).cpu_times()[:2])


def test_a_killed_process_is_replaced(fresh):
    pixels(PICTURE)
    fresh._idle[0]._child.kill()
    fresh._idle[0]._child.wait()
    assert pixels(PICTURE).size == (40, 30)


def test_no_more_than_two_are_decoded_at_once(fresh):
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(pixels(PICTURE).size)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(40, 30)] * 12
    assert 1 <= len(fresh._idle) <= decoder.AT_ONCE


def test_memory_of_a_large_picture_is_given_back(fresh, monkeypatch):
    monkeypatch.setattr(decoding, "KEPT_BYTES", 10_000)
    large = encoded(noise(200, 200))
    assert pixels(large).size == (200, 200)
    assert os.fstat(fresh._idle[0]._shared).st_size == 0
    assert pixels(PICTURE).size == (40, 30)
    assert os.fstat(fresh._idle[0]._shared).st_size > 0


def test_a_decoding_process_loads_little_and_ends_with_its_parent():
    program = f"""
        from adapters.vlm_quantization.data import decoding
        decoding.pixels_of_picture({PICTURE!r}, 10**6, "")
        child = decoding._POOL._idle[0]._child.pid
        maps = open(f"/proc/{{child}}/maps").read()
        print(child, "torch" in maps, "numpy" in maps, flush=True)
        import os
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=300
    )
    child, *loaded = done.stdout.split()
    assert loaded == ["False", "False"]
    until(lambda: not processes.started(int(child)))


def test_a_forked_process_starts_its_own():
    pixels(PICTURE)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(len(decoding._POOL._idle)).encode() + b" %d" % pixels(PICTURE).width)
        finally:
            decoding._POOL.end()
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 100) == b"0 40"
    os.close(reading)
    os.waitpid(pid, 0)
    assert pixels(PICTURE).size == (40, 30)
