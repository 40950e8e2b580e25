"""The TLS pair of a cluster."""

from __future__ import annotations

import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import workbench as wb
from workbench.engine import certificates
from workbench.engine.certificates import Certificates, make_certificates


def test_a_pair_is_made_and_its_key_is_for_its_owner_only(tmp_path: Path) -> None:
    pair = make_certificates(tmp_path / "new" / "certs")
    pair.check()
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(pair.key.parent.stat().st_mode) == 0o700
    assert pair == Certificates.in_folder(tmp_path / "new" / "certs")
    assert pair.security().require_encryption


def test_a_pair_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    before = make_certificates(tmp_path).key.read_bytes()
    with pytest.raises(wb.WrongState, match=r"already has cluster\.crt and cluster\.key"):
        make_certificates(tmp_path)
    assert (tmp_path / "cluster.key").read_bytes() == before


@pytest.mark.parametrize("days", [0, 4_000])
def test_the_days_have_limits(tmp_path: Path, days: int) -> None:
    with pytest.raises(wb.BadInput, match=r"days must be 1 to 3,650"):
        make_certificates(tmp_path, days)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    pair = make_certificates(tmp_path)
    pair.key.chmod(0o640)
    with pytest.raises(wb.BadInput, match="can be read by other users"):
        pair.check()


def test_an_expired_pair_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = make_certificates(tmp_path, 1)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=3)

    monkeypatch.setattr(certificates, "datetime", Later)
    with pytest.raises(wb.BadInput, match="has expired on"):
        pair.check()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, other = make_certificates(tmp_path / "one"), make_certificates(tmp_path / "other")
    with pytest.raises(wb.BadInput, match="does not belong to"):
        Certificates(one.authority, one.certificate, other.key).check()
    one.certificate.write_text("no certificate")
    with pytest.raises(wb.BadInput, match="is not a certificate in PEM form"):
        one.check()
    one.certificate.unlink()
    with pytest.raises(wb.BadInput, match="no such file\nMake a pair with"):
        one.check()


def test_without_cryptography_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(wb.MissingExtra, match=r"cryptography is not installed\n.*\[dask\]"):
        make_certificates(tmp_path)
    assert list(tmp_path.iterdir()) == []
