"""A build that does not fit is refused before it starts, or gives back what it took."""

import errno
import shutil
from collections import namedtuple

import pytest

import workbench as wb
from adapters.vlm_quantization.data import external_sort
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index import shards, space
from tests.adapters.vlm_quantization.small_index import SmallEncoder, build

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch):
    """Set how many bytes are free."""

    def put(size):
        monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(10**12, 0, size))

    return put


def work_folders(folder):
    return list(folder.glob(".*.building-*"))


def test_a_build_that_cannot_fit_is_refused_before_anything_is_encoded(tmp_path, free, monkeypatch):
    free(1000)
    monkeypatch.setattr(SmallEncoder, "encode_images", lambda *_: pytest.fail("it began"))
    with pytest.raises(wb.WrongState, match=r"needs at least .* MB more .* 0.0 MB are free") as caught:
        build(tmp_path)
    assert "Free some space" in caught.value.hint


def test_the_estimate_is_no_more_than_a_build_takes(tmp_path, monkeypatch):
    """What fits is never refused: the parts and the merged files together are at least as large."""
    sizes = []
    publish = files.publish

    def measured(built, final):
        sizes.append(space._size(built.parent))
        publish(built, final)

    estimates = []
    monkeypatch.setattr(files, "publish", measured)
    check = space.check_space
    monkeypatch.setattr(
        "adapters.vlm_quantization.index.build.check_space",
        lambda work, needed, say: (estimates.append(needed), check(work, needed)),
    )
    build(tmp_path)
    assert 0 < estimates[0] <= sizes[0] <= 4 * estimates[0]


@pytest.mark.parametrize(("left", "kept"), [(10**5, False), (10**9, True)])
def test_a_disk_that_fills_up_is_said_and_given_back(tmp_path, free, monkeypatch, left, kept):
    monkeypatch.setattr(shards, "SHARD_ITEMS", 16)
    write, written = wb.write_whole, []

    def fills(path, data, **options):
        if len(written) == 2:
            free(left)
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, data)

    monkeypatch.setattr(shards.wb, "write_whole", fills)
    with pytest.raises(wb.WrongState, match="the disk is full") as caught:
        build(tmp_path)
    assert all(path.exists() == kept for path in written)
    assert ("resumes" if kept else "were deleted") in caught.value.hint
    monkeypatch.undo()
    assert build(tmp_path).resumed == 0  # the size of a shard is another one now
    assert work_folders(tmp_path) == []


def test_a_disk_that_is_full_while_entries_are_sorted_is_said(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(external_sort, "RUN_BYTES", 1)
    monkeypatch.setattr(external_sort.tempfile, "TemporaryFile", full)
    with pytest.raises(wb.WrongState, match=r"the disk of .* is full: the collection cannot be sorted there"):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_error_keeps_what_was_done(tmp_path, monkeypatch):
    def breaks(path, data, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shards.wb, "write_whole", breaks)
    with pytest.raises(PermissionError):
        build(tmp_path)
    assert shutil.disk_usage(tmp_path).free > 0
    assert len(work_folders(tmp_path)) == 1
